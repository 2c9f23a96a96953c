import csv
import json
from dataclasses import replace
from xml.etree import ElementTree

import nibabel as nib
import numpy as np
import pytest

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.evaluation.measures import LOG10_EDGES, Measures, measure
from nipype_quicksilver.evaluation.report import write_report
from nipype_quicksilver.evaluation.tables import Measured
from nipype_quicksilver.spatial.records import as_json, from_json
from nipype_quicksilver.spatial.transforms import affine_transform

SIDE = 12


def image(data):
    return nib.Nifti1Image(data.astype(np.uint8), np.eye(4))


def shift(x, scale=1.0):
    matrix = np.diag([scale, scale, scale, 1.0])
    matrix[0, 3] = x
    return affine_transform(matrix)


@pytest.fixture
def cubes():
    """Labels 1 and 2, cubes of 4 voxels side by side, and a mask of both."""
    data = np.zeros((SIDE,) * 3)
    data[2:6, 4:8, 4:8], data[6:10, 4:8, 4:8] = 1, 2
    return {"fixed_labels": image(data), "moving_labels": image(data), "mask": image(data > 0)}


def test_a_shift_is_measured(cubes):
    measures = measure(shift(1.0), **cubes, reference=shift(0.0))
    overlap = measures.overlap
    assert overlap.labels["1"].target_overlap == 0.75
    assert overlap.labels["2"].target_overlap == 0.75
    assert overlap.mean.target_overlap == overlap.total.target_overlap == 0.75
    assert measures.jacobian.folded == 0
    assert np.flatnonzero(measures.distance).tolist() in ([99], [100])
    assert sum(measures.distance) == sum(measures.log10_jacobian) == 128


def test_a_scale_is_measured_by_the_jacobian(cubes):
    measures = measure(shift(0.0, scale=1.2), **cubes, reference=shift(0.0))
    for histogram in (measures.log10_jacobian, measures.difference):
        (bin_,) = np.flatnonzero(histogram)
        assert LOG10_EDGES[bin_] <= 3 * np.log10(1.2) <= LOG10_EDGES[bin_ + 1]


def test_labels_that_miss_each_other_are_refused(cubes):
    with pytest.raises(InputError, match="none of its labels, warped, lies within"):
        measure(shift(50.0), **cubes)


def read_table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.fixture
def reported(cubes, tmp_path):
    """Folder of a report on two methods and three pairs of two label sets."""
    measured = []
    for method, size in (("LP", 1.0), ("LO", 0.0)):
        for pair, label_set, change in (("a", "one", 0.0), ("b", "one", 1.0), ("c", "two", 0.0)):
            reference = None if method == "LO" else shift(0.0)
            measures = measure(shift(size + change), **cubes, reference=reference)
            timed = replace(measures, seconds=2.0 + change, cpu_seconds=4.0)
            content = json.loads(json.dumps(as_json(timed)))
            read = from_json(Measures, content, "measures.json", "")
            assert read == timed
            measured.append(Measured(pair, label_set, method, read))
    times = [{"device": "cpu", "threads": n, "seconds": 4.0 / n} for n in (1, 2, 2)]
    times.append({"device": "cuda", "threads": 1, "seconds": 0.1})
    write_report(tmp_path / "report", measured, times)
    return tmp_path / "report"


def test_tables_are_tidy(reported):
    rows = read_table(reported / "measures.tsv")
    assert len(rows) == 6
    first = rows[0]
    assert (first["label_set"], first["pair"], first["method"]) == ("one", "a", "LP")
    assert float(first["target_overlap"]) == 0.75
    assert float(first["error_mm_p50"]) == pytest.approx(1.0, abs=0.01)
    assert rows[-1]["error_mm_p50"] == "n/a"
    assert len(read_table(reported / "labels.tsv")) == 6 * 2
    for label_set in ("one", "two"):
        density = [
            float(row["density"])
            for row in read_table(reported / "jacobians.tsv")
            if row["label_set"] == label_set and row["method"] == "LP"
            and row["quantity"] == "difference"
        ]  # fmt: skip
        assert sum(density) * 0.01 == pytest.approx(1, rel=1e-4)


def test_errors_are_those_of_all_voxels_of_all_pairs(reported):
    errors = {row["label_set"]: row for row in read_table(reported / "errors.tsv")}
    assert set(errors) == {"one", "two"}
    assert errors["one"]["pairs"] == "2"
    assert float(errors["one"]["error_mm_p25"]) == pytest.approx(1.0, abs=0.01)
    assert float(errors["one"]["error_mm_p75"]) == pytest.approx(2.0, abs=0.01)


def test_summary(reported):
    summary = json.loads((reported / "summary.json").read_text())
    row = next(r for r in summary["methods"] if (r["label_set"], r["method"]) == ("one", "LP"))
    assert row["pairs"] == 2
    assert row["target_overlap_mean"] == pytest.approx((0.75 + 0.5) / 2)
    assert row["target_overlap_median"] == pytest.approx(0.625)
    assert (row["seconds_median"], row["cpu_seconds_median"]) == (2.5, 4.0)
    assert summary["reference"] == "LO"
    assert len(summary["times"]) == 4


def test_figures_show_numbers(reported):
    texts = {}
    for name in ("overlap", "jacobians", "times"):
        assert (reported / f"{name}.png").stat().st_size > 5000
        tree = ElementTree.parse(reported / f"{name}.svg")
        texts[name] = " ".join(tree.getroot().itertext())
    for text in ("one (n = 2 pairs)", "two (n = 1 pair)", "0.625", "0.750"):
        assert text in texts["overlap"]
    assert "difference to LO" in texts["jacobians"]
    assert "one GPU, 0.1 s" in texts["times"]
    assert "4 s" in texts["times"]


def test_figures_are_the_same_again(reported, tmp_path, cubes):
    measured = [Measured("a", "one", "LO", measure(shift(0.0), **cubes))]
    for name in ("first", "second"):
        write_report(tmp_path / name, measured)
    for file in (tmp_path / "first").iterdir():
        assert file.read_bytes() == (tmp_path / "second" / file.name).read_bytes(), file
