"""Points in CSV files: coordinates change, everything else is copied."""

import json

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


ELECTRODES = 'name\tx\ty\tz\tsize\nA"1\t1\t2\t3\t5\nREF\tn/a\tn/a\tn/a\tn/a\nB\t-1\t0\t4\tn/a\n'


def test_electrodes_of_bids(tmp_path):
    path = tmp_path / "sub-01_space-ACPC_electrodes.tsv"
    path.write_text(ELECTRODES)
    table = read_points(path)
    np.testing.assert_array_equal(table.coordinates(), [[1, 2, 3], [-1, 0, 4]])
    table.with_coordinates(table.coordinates() + 1).write(tmp_path / "out.tsv")
    assert (tmp_path / "out.tsv").read_text() == (
        "name\tx\ty\tz\tsize\n"
        'A"1\t2.000000\t3.000000\t4.000000\t5\n'
        "REF\tn/a\tn/a\tn/a\tn/a\n"
        "B\t0.000000\t1.000000\t5.000000\tn/a\n"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x\ty\tz\nn/a\tn/a\tn/a\n", "contains no points"),
        ("x\ty\tz\n1\tn/a\tn/a\n", "line 2: y is 'n/a'"),
        ("onset\tduration\n1\t2\n", "must name the columns x, y and z"),
        (b"\xff\xfe\x00", "is not a TSV file"),
    ],
)
def test_unusable_tables_are_refused(content, message, tmp_path):
    path = tmp_path / "x_electrodes.tsv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError, match=message):
        read_points(path)


@pytest.mark.parametrize("unit", ["m", "cm", "pixels", "mm", "n/a"])
@pytest.mark.parametrize("kind", ["EEG", "iEEG"])
def test_electrodes_in_other_units_are_refused(kind, unit, tmp_path):
    path = tmp_path / "sub-01_electrodes.tsv"
    path.write_text(ELECTRODES)
    (tmp_path / "sub-01_coordsystem.json").write_text(
        json.dumps({f"{kind}CoordinateSystem": "ACPC", f"{kind}CoordinateUnits": unit})
    )
    if unit in ("mm", "n/a"):
        assert len(read_points(path).coordinates()) == 2
        return
    with pytest.raises(InputError, match=f"are in {unit} according to sub-01_coordsystem.json"):
        read_points(path)
