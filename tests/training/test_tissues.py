"""Tables of tissues, and the rows of labels in them."""

import numpy as np
import pytest

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.training.tissues import TissueTable, read_tissue_table, rows_of_labels


@pytest.fixture(scope="module")
def table():
    return read_tissue_table()


def test_shipped_table(table):
    assert len(set(table.labels)) == len(table.labels) == len(table.groups)
    assert len(table.t1w) == len(table.t2w) == max(table.groups) + 1
    left, right = table.labels.index(2), table.labels.index(41)
    assert table.groups[left] == table.groups[right]
    assert {2, 3, 17, 53} <= set(table.labels[: table.scored])
    assert 24 not in table.labels[: table.scored]


COLUMNS = "label\tname\ttissue\tt1w\tt2w\tscored\n"


@pytest.mark.parametrize(
    "content",
    [
        "label\tname\n1\tone\n",
        "",
        "label\ttissue\tt1w\nx\ty\tz\n",
        COLUMNS,
        COLUMNS + "-1\tone\tone\t1\t1\t1\n",
    ],
)
def test_tables_that_cannot_be_used(content, tmp_path):
    path = tmp_path / "tissues.tsv"
    path.write_text(content)
    with pytest.raises(InputError, match=r"tissues.tsv: is not a table of tissues"):
        read_tissue_table(path)
    with pytest.raises(InputError, match=r"missing.tsv: no such file"):
        read_tissue_table(tmp_path / "missing.tsv")


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.int64])
def test_rows_of_labels(table, dtype):
    labels = np.arange(0, 256, dtype=dtype) if dtype == np.uint8 else np.arange(600).astype(dtype)
    expected = [table.labels.index(n) if n in table.labels else -1 for n in labels]
    assert rows_of_labels(labels, table).tolist() == expected
    if np.issubdtype(dtype, np.signedinteger):
        assert (rows_of_labels(-labels[1:], table) == -1).all()


def test_the_table_may_have_labels_that_the_type_of_a_map_cannot_hold(table):
    assert max(table.labels) > 127
    labels = np.array([2, 41, 0, -1], np.int8)
    expected = [table.labels.index(2), table.labels.index(41), -1, -1]
    assert rows_of_labels(labels, table).tolist() == expected
    own = TissueTable((2, 255), (0, 1), (1.0, 0.5), (0.5, 1.0), 2)
    assert rows_of_labels(np.array([2, 255, 254], np.uint8), own).tolist() == [0, 1, -1]


def test_a_table_of_ones_own(tmp_path):
    path = tmp_path / "tissues.tsv"
    path.write_text(
        "label\tname\ttissue\tt1w\tt2w\tscored\n"
        "5\tb\tsecond\t0.5\t0.6\t0\n0\tnone\tfirst\t0.1\t0.2\t1\n7\tc\tsecond\t0.9\t0.9\t1\n"
    )
    table = read_tissue_table(path)
    assert table == TissueTable((0, 7, 5), (0, 1, 1), (0.1, 0.9), (0.2, 0.9), 2)
