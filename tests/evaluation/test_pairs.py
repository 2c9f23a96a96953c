import pytest

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.evaluation.pairs import Pair, named, read_pairs, write_pairs

HEADER = "fixed\tmoving\tfixed_labels\tmoving_labels"


@pytest.fixture
def table(tmp_path):
    """A function that writes a table next to files a, b and c with labels."""
    for name in "abc":
        (tmp_path / f"{name}.nii.gz").touch()
        (tmp_path / f"{name}_labels.nii.gz").touch()

    def table(*rows, header=HEADER):
        path = tmp_path / "pairs.tsv"
        path.write_text("\n".join([header, *rows]) + "\n")
        return path

    return table


def test_names_that_are_too_long_for_a_file(tmp_path):
    path = tmp_path / "pairs.tsv"
    cells = ["x" * 300] * 4
    path.write_text("fixed\tmoving\tfixed_labels\tmoving_labels\n" + "\t".join(cells) + "\n")
    with pytest.raises(InputError, match=r"row 2: fixed: .*: no such file; correct it"):
        read_pairs(path)


def row(fixed, moving, *more):
    images = (f"{fixed}.nii.gz", f"{moving}.nii.gz")
    labels = (f"{fixed}_labels.nii.gz", f"{moving}_labels.nii.gz")
    return "\t".join([*images, *labels, *more])


def test_paths_are_relative_to_the_table(table, tmp_path, monkeypatch):
    path = table(row("a", "b", "aseg"), row("b", "c", "aseg"), header=f"{HEADER}\tlabel_set")
    monkeypatch.chdir("/")
    first, second = read_pairs(path)
    assert first.fixed == tmp_path / "a.nii.gz"
    assert first.moving_labels == tmp_path / "b_labels.nii.gz"
    assert (first.name, second.name, first.label_set) == ("b_to_a", "c_to_b", "aseg")
    assert first.fixed_mask is None


def test_written_pairs_are_read_again(table, tmp_path):
    pairs = read_pairs(
        table(row("a", "b", "aseg", "a.nii.gz"), header=f"{HEADER}\tlabel_set\taffine")
    )
    assert read_pairs(write_pairs(tmp_path / "again.tsv", pairs)) == pairs


@pytest.mark.parametrize(
    ("header", "rows", "text"),
    [
        (HEADER, [], "has no rows"),
        ("fixed\tmoving", ["a.nii.gz\tb.nii.gz"], "lacks the column fixed_labels, moving_labels;"),
        (HEADER.replace("\t", ","), ["a,b,c,d"], "columns are separated by tabs"),
        (f"{HEADER}\tage", [row("a", "b", "30")], "the column age is not known"),
        (f"{HEADER}\tfixed_mask", [row("a", "b", "a.nii.gz")], "add the other or remove it"),
        (HEADER, [row("a", "b", "more")], "row 2 has more cells than the header"),
        (HEADER, [row("a", "b"), "a.nii.gz\tb.nii.gz"], "row 3 has no fixed_labels, moving_labels"),
        (f"{HEADER}\taffine", [row("a", "b", " ")], "or remove the column"),
        (HEADER, [row("a", "d")], "row 2: moving:"),
        (HEADER, [row("a", "a")], "with itself"),
        (HEADER, [row("a", "b"), row("b", "a"), row("a", "b")], "row 4 repeats row 2"),
    ],
)
def test_wrong_tables_are_refused(table, header, rows, text):
    path = table(*rows, header=header)
    with pytest.raises(InputError, match=f"^{path}: ") as refusal:
        read_pairs(path)
    assert text in str(refusal.value)


def test_other_files_are_refused(tmp_path):
    (tmp_path / "pairs.tsv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(InputError, match="not a table in UTF-8"):
        read_pairs(tmp_path / "pairs.tsv")
    with pytest.raises(InputError, match="no such file"):
        read_pairs(tmp_path / "none.tsv")


def test_names_are_unique(tmp_path):
    def pair(fixed, moving):
        return Pair("", tmp_path / fixed, tmp_path / moving, tmp_path / "x", tmp_path / "y")

    files = [("s1/T1w.nii", "s2/T1w.nii"), ("s2/T1w.nii", "s1/T1w.nii")]
    assert [p.name for p in named([pair(*f) for f in files])] == [
        "s2-T1w_to_s1-T1w",
        "s1-T1w_to_s2-T1w",
    ]
    same = [pair("s1/a.nii", "s1/b.nii"), pair("s1/a.nii.gz", "s1/b.nii.gz")]
    names = [p.name for p in named(same)]
    assert len(set(names)) == 2
    assert names[1].endswith("-2")
