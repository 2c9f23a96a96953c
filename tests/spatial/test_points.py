"""Points in CSV files: coordinates change, everything else is copied."""

import numpy as np
import pytest

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial.points import read_points

TEXT = 'name, x,y,z,comment\n"a, b",1,2,3,first\n\n007,-1.5,0,1e1,\n'


@pytest.fixture
def written(tmp_path):
    """A function that writes a file and returns its path."""

    def written(content):
        path = tmp_path / "my points.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return written


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_coordinates_are_read(mark, newline, written):
    table = read_points(written(mark + TEXT.replace("\n", newline)))
    assert table.columns == ["name", "x", "y", "z", "comment"]
    np.testing.assert_array_equal(table.coordinates(), [[1, 2, 3], [-1.5, 0, 10]])
    assert table.coordinates().dtype == np.float64


def test_other_columns_are_copied(written, tmp_path):
    table = read_points(written(TEXT))
    changed = table.with_coordinates(table.coordinates() + np.array([0.5, 0, 1e-7]))
    changed.write(tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == (
        "name,x,y,z,comment\n"
        '"a, b",1.500000,2.000000,3.000000,first\n'
        "007,-1.000000,0.000000,10.000000,\n"
    )
    # The original table is unchanged.
    np.testing.assert_array_equal(table.coordinates()[0], [1, 2, 3])


def test_columns_in_any_order(written):
    table = read_points(written("z,label,y,x\n3,a,2,1\n"))
    np.testing.assert_array_equal(table.coordinates(), [[1, 2, 3]])
    assert table.with_coordinates(np.array([[4, 5, 6]])).rows == [
        ["6.000000", "a", "5.000000", "4.000000"]
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "must name the columns x, y and z"),
        ("1,2,3\n4,5,6\n", "it reads '1,2,3'"),
        ("x,y,z,x\n1,2,3,4\n", "each once"),
        ("x,y,z\n", "contains no points"),
        ("x,y,z\n\n1,2,3\n1,2\n", "line 4 has 2 cells"),
        ("x,y,z\n1,two,3\n", "line 2: y is 'two'"),
        ('x,y,z\n1,2,"3\n4"\n', r"line 3: z is '3\n4'"),
        ("x,y,z\n1,2,nan\n", "line 2: z is 'nan'"),
        (b"\xff\xfe\x00", "is not a CSV file"),
        ('x,y,z\n1,2,"3\n', "is not a CSV file"),
    ],
)
def test_unusable_files_are_refused(content, message, written):
    path = written(content)
    with pytest.raises(InputError) as caught:
        read_points(path)
    assert str(caught.value).startswith(f"{path}: ") and message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"none.csv: no such file"):
        read_points(tmp_path / "none.csv")
