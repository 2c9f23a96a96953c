"""The demonstration: its pair, its truth, its picture, and what the command refuses."""

import json
from types import SimpleNamespace

import matplotlib.image
import nibabel as nib
import numpy as np
import pytest
import torch
from nibabel.affines import apply_affine, from_matvec
from scipy.ndimage import gaussian_filter

from nipype_quicksilver.cli import demo
from nipype_quicksilver.cli.main import main
from nipype_quicksilver.demo import phantom
from nipype_quicksilver.demo.files import save
from nipype_quicksilver.demo.geodesic import PEAK, SMALLEST_JACOBIAN, random_geodesic
from nipype_quicksilver.demo.phantom import Template, load_template, make_pair
from nipype_quicksilver.demo.run import run_demo
from nipype_quicksilver.lddmm.settings import SCHEDULES, Settings, Stage
from nipype_quicksilver.options import OPTIONS
from nipype_quicksilver.registration.results import FILES
from nipype_quicksilver.registration.shooting import shoot_file
from nipype_quicksilver.spatial.grids import Grid
from nipype_quicksilver.spatial.images import nifti
from nipype_quicksilver.spatial.jacobians import minimum_jacobian
from nipype_quicksilver.spatial.resampling import resample
from nipype_quicksilver.spatial.transforms import (
    displacement_on_grid,
    read_displacement,
    read_transform,
)

CPU = torch.device("cpu")
QUICK = Settings(stages=(Stage(4, 4, 20), Stage(2, 4, 10)))


@pytest.fixture(scope="session")
def template():
    """A textured, folded ball of gray around white matter, with voxels of 2 mm."""
    grid = Grid((30, 34, 28), from_matvec(np.diag([2.0, 2.0, 2.0]), [-29, -33, -27]))
    x, y, z = np.moveaxis(grid.coordinates(), -1, 0)
    angle = np.arctan2(y, x)
    radius = np.sqrt(x**2 + (0.9 * y) ** 2 + (1.1 * z) ** 2)
    radius = radius * (1 + 0.12 * np.cos(5 * angle) * np.cos(z / 9))
    brain, white = radius < 22, gaussian_filter((radius < 13).astype(float), 0.7)
    gray = np.where(brain, (1 - white) * (radius < 20), 0)
    texture = 0.1 * (np.sin(x / 3) * np.cos(y / 3.5) + np.sin(z / 3) * np.cos(x / 4))
    data = np.where(brain, 0.3 + 0.3 * gray + 0.5 * white + texture, 0)
    return Template(*(nifti(a.astype(np.float32), grid.affine) for a in (data, gray, white)))


@pytest.fixture(scope="session")
def pair(template):
    return make_pair(template, 0, CPU)


@pytest.fixture(scope="session")
def outcome(pair, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    inputs = pair.write(folder)
    # The networks have learned from brains, not from balls.
    result = run_demo(pair, inputs, method="optimize", settings=QUICK, device="cpu")
    out = tmp_path_factory.mktemp("out") / "demo"
    save(result, out, inputs)
    return SimpleNamespace(result=result, folder=out)


def test_the_true_deformation_is_large_and_does_not_fold(pair):
    truth = pair.truth
    length = np.linalg.norm(truth.displacement, axis=-1)
    assert length.max() == pytest.approx(PEAK, rel=0.1)
    assert minimum_jacobian(truth.displacement, truth.momentum.grid).min() > SMALLEST_JACOBIAN
    rim = np.ones(length.shape, bool)
    rim[1:-1, 1:-1, 1:-1] = False
    assert length[rim].max() == 0


def test_a_deformation_that_would_nearly_fold_is_made_smaller(template):
    truth = random_geodesic(template.brain, 0, CPU, peak=60.0)
    assert minimum_jacobian(truth.displacement, truth.momentum.grid).min() > SMALLEST_JACOBIAN


def test_the_truth_is_the_geodesic_of_its_momentum(outcome, pair, tmp_path):
    shoot_file(outcome.folder / "true_momentum.nii.gz", tmp_path, CPU)
    shot, grid = read_displacement(tmp_path / "displacement.nii.gz")
    assert grid.equals(pair.truth.momentum.grid)
    np.testing.assert_allclose(shot, pair.truth.displacement, atol=1e-3)


def test_the_fixed_brain_is_the_moving_one_through_the_truth(pair, template, monkeypatch):
    # Without the disguise nothing but the map is left.
    for name in ("GRAY_LOSS", "BIAS", "NOISE"):
        monkeypatch.setattr(phantom, name, 0)
    monkeypatch.setattr(phantom, "GAMMA", 1)
    plain = np.asanyarray(make_pair(template, 0, CPU).fixed.dataobj).astype(float)
    grid = Grid.from_image(template.brain)
    expected = phantom.WHITE * resample(template.brain, grid, pair.truth.transform)
    inside = np.asanyarray(pair.fixed.dataobj) > 0
    np.testing.assert_allclose(plain[inside], np.maximum(expected[inside], 1), atol=0.51)
    assert np.count_nonzero((expected > 0.6 * expected.max()) & ~inside) == 0


def test_contrast_differs(pair):
    fixed, deformed = (np.asanyarray(i.dataobj).astype(float) for i in (pair.fixed, pair.deformed))
    labels = np.asanyarray(pair.fixed_labels.dataobj)

    def ratio(image):
        return image[labels == 2].mean() / image[labels == 3].mean()

    assert ratio(fixed) < 0.9 * ratio(deformed)
    assert (fixed[labels > 0] > 0).all()


def test_the_seed_decides(template, pair):
    again, other = make_pair(template, 0, CPU), make_pair(template, 1, CPU)
    for name in ("fixed", "moving", "fixed_labels"):
        first, second = (np.asanyarray(getattr(p, name).dataobj) for p in (pair, again))
        np.testing.assert_array_equal(first, second)
    assert not np.array_equal(other.fixed.dataobj, pair.fixed.dataobj)
    assert np.array_equal(other.moving.dataobj, pair.moving.dataobj)


def test_the_true_error_falls(outcome):
    numbers = outcome.result.numbers
    error, dice = numbers.error_mm, numbers.dice
    assert error["before"].mean > 1
    assert error["after"].mean < 0.6 * error["before"].mean
    assert dice["after"]["white matter"] > dice["before"]["white matter"]
    assert numbers.jacobian.folded == 0
    brain = np.asanyarray(outcome.result.pair.fixed.dataobj) > 0
    for when in ("before", "after"):
        assert outcome.result.error[when][brain].mean() == pytest.approx(error[when].mean)


def test_the_place_of_the_largest_error(outcome):
    largest = outcome.result.numbers.largest_error
    error, labels = outcome.result.error["after"], outcome.result.pair.fixed_labels
    tissues = np.asanyarray(labels.dataobj)
    assert largest.error_mm == pytest.approx(error[tissues > 0].max())
    index = apply_affine(np.linalg.inv(labels.affine), largest.position_mm)
    place = tuple(np.rint(index).astype(int))
    assert error[place] == pytest.approx(largest.error_mm)
    assert largest.tissue == phantom.TISSUES[int(tissues[place])]
    others = apply_affine(labels.affine, np.argwhere(tissues != tissues[place]))
    nearest = np.linalg.norm(others - largest.position_mm, axis=-1).min()
    assert largest.border_mm == pytest.approx(nearest)


def test_error_is_that_of_the_files(outcome):
    found, grid = read_displacement(outcome.folder / "displacement.nii.gz")
    true_map = read_transform(outcome.folder / "true_displacement.nii.gz")
    truth = displacement_on_grid(true_map, grid)
    inside = nib.load(outcome.folder / "fixed.nii.gz").get_fdata() > 0
    distance = np.linalg.norm(found - truth, axis=-1)[inside]
    numbers = json.loads((outcome.folder / "demo.json").read_text())
    assert distance.mean() == pytest.approx(numbers["error_mm"]["after"]["mean"], rel=1e-4)


def test_files(outcome):
    own = {"demo.png", "demo.json", "true_displacement.nii.gz", "true_momentum.nii.gz"}
    own |= {"fixed.nii.gz", "moving.nii.gz", "fixed_labels.nii.gz", "moving_labels.nii.gz"}
    of_samples = {"uncertainty.nii.gz", "uncertainty_components.nii.gz"}
    made = {path.name for path in outcome.folder.iterdir()}
    assert made == own | set(FILES.values()) - of_samples
    summary = json.loads((outcome.folder / "summary.json").read_text())
    assert summary["inputs"]["fixed"] == str(outcome.folder / "fixed.nii.gz")
    seconds = json.loads((outcome.folder / "demo.json").read_text())["seconds"]
    assert {"optimize", "picture", "write"} < set(seconds)
    assert seconds["total"] == pytest.approx(sum(seconds.values()) - seconds["total"])


def test_picture(outcome):
    assert (outcome.folder / "demo.png").read_bytes().startswith(b"\x89PNG")
    picture = matplotlib.image.imread(outcome.folder / "demo.png")
    height, width = picture.shape[:2]
    assert 1500 < width < 3000
    assert 800 < height < 2000
    assert picture[..., :3].std() > 0.1


def test_template_comes_with_the_installation():
    template = load_template(2)
    brain, gray, white = (np.asanyarray(i.dataobj) for i in vars(template).values())
    assert brain.shape == gray.shape == white.shape
    np.testing.assert_allclose(np.abs(np.diag(template.brain.affine))[:3], 2)
    full = np.count_nonzero(load_template(1).brain.dataobj)
    assert 8 * np.count_nonzero(brain) == pytest.approx(full, rel=0.02)  # mm3
    assert np.corrcoef(brain[brain > 0], white[brain > 0])[0, 1] > 0.5


@pytest.fixture
def quick(monkeypatch, template):
    """The command on a small brain and with few iterations."""
    monkeypatch.setattr(phantom, "load_template", lambda spacing: template)
    monkeypatch.setitem(SCHEDULES, "full", QUICK)


def test_command(quick, tmp_path, capsys):
    out = tmp_path / "new" / "demo"
    assert main(["demo", "--output-dir", str(out), "--device", "cpu"]) == 0
    captured = capsys.readouterr()
    rows = ("error of the map", "Dice of white matter", "folded voxels", "seconds")
    for text in (*rows, "The largest error, "):
        assert text in captured.out
    assert captured.out.endswith(f"Picture: {out / 'demo.png'}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    assert json.loads((out / "demo.json").read_text())["method"] == OPTIONS["method"].default


def test_another_method(quick, tmp_path, capsys):
    out = tmp_path / "demo"
    arguments = ["demo", "--output-dir", str(out), "--device", "cpu", "--method", "optimize"]
    assert main(arguments) == 0
    assert "stage 2 of 2" in capsys.readouterr().err
    assert json.loads((out / "demo.json").read_text())["method"] == "optimize"


def test_nothing_is_left_when_drawing_fails(quick, tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise RuntimeError("no ink")

    monkeypatch.setattr("nipype_quicksilver.demo.files.draw", fail)
    arguments = ["demo", "--output-dir", str(tmp_path / "out"), "--quiet", "--device", "cpu"]
    assert main(arguments) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_output_folder_is_refused_before_anything_is_computed(refused, tmp_path, monkeypatch):
    def fail(*_):
        raise AssertionError("computed")

    monkeypatch.setattr(phantom, "load_template", fail)
    (tmp_path / "file").write_text("mine")
    refused("demo", "--output-dir", tmp_path / "file", message="file")
    refused("demo", "--output-dir", tmp_path / "file" / "below", message="choose another")


def test_usage(capsys):
    assert main(["demo", "--resolution", "3"]) == 2
    assert "--resolution" in capsys.readouterr().err
    assert demo.RESOLUTIONS[0] == 1
