"""Tables are read strictly: one error for whatever is not a table."""

import pytest

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial.tables import number, read_rows, whole


def read(path):
    return read_rows(path, "table", "save it as text")


def test_rows_by_column(tmp_path):
    path = tmp_path / "a [1].tsv"
    path.write_text("\ufeffa\tb\n1\t[x]\n\n2\n", encoding="utf-8")
    assert read(path) == [{"a": "1", "b": "[x]"}, {"a": "2", "b": ""}]
    path.write_text("")
    assert read(path) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\tb\n\xff\t1\n", "is not a table in UTF-8"),
        (b"a\n" + b"x" * 200_000, "is not a table in UTF-8"),
        (b"a\ta\n1\t2\n", "has the column a twice"),
        (b'a\n"1\n2"\n', "has a cell of several lines"),
        (b"a\n1\t2\n", "row 2 has more cells than the header"),
    ],
)
def test_what_is_not_a_table(content, message, tmp_path):
    path = tmp_path / "a.tsv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        read(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text", ["1_000", "nan", "inf", "1e999", "\u0663", "", "0x1", "1,5", "--1"]
)
def test_cells_that_are_not_numbers(text):
    with pytest.raises(ValueError, match="is not a"):
        number(text)
    with pytest.raises(ValueError, match="is not a"):
        whole(text)


def test_numbers():
    assert [number(text) for text in ("1", "-1.5e3", ".5", " 2. ")] == [1, -1500, 0.5, 2]
    assert whole("-0012") == -12
    with pytest.raises(ValueError, match="is not a whole number"):
        whole("9" * 5000)
