"""What a registration does, on a pair small enough for seconds."""

import json
from dataclasses import replace

import nibabel as nib
import nitransforms
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nibabel.affines import apply_affine

import nipype_quicksilver
from nipype_quicksilver.cli.main import main
from nipype_quicksilver.lddmm.settings import Settings, Stage
from nipype_quicksilver.registration.conformed import optimize_files
from nipype_quicksilver.registration.geodesic import shoot_file
from nipype_quicksilver.registration.pair import read_inputs
from nipype_quicksilver.registration.preparation import prepare
from nipype_quicksilver.registration.results import FILES
from nipype_quicksilver.spatial import images, transforms
from nipype_quicksilver.spatial.grids import Grid
from nipype_quicksilver.spatial.measures import log_jacobian, transform_distance
from nipype_quicksilver.spatial.momentum import read_momentum, write_momentum

CPU = torch.device("cpu")
# The tests are about what surrounds the engine: a few iterations are enough.
SETTINGS = Settings(stages=(Stage(4, 4, 12), Stage(2, 2, 8)))
ONCE = "x".join("1" * len(Settings().stages))  # as an option, for the default schedule
QUICK = replace(SETTINGS, stages=(Stage(4, 4, 3), Stage(2, 4, 2)))


def register(fixed, moving, *, settings=QUICK, **options):
    # The pair is far smaller than a head: it is aligned, and has masks or no skull.
    alone = {"brain_extraction": "none", "affine": None}
    options = {**alone, "method": "optimize", "device": "cpu", **options}
    return nipype_quicksilver.register(fixed, moving, settings=settings, **options)


def load(path):
    return np.asanyarray(nib.load(path).dataobj)


def masked(pair):
    return {
        "fixed_mask": pair.fixed_mask,
        "moving_mask": pair.moving_mask,
        "affine": pair.affine,
        "fixed_labels": pair.fixed_labels,
        "moving_labels": pair.moving_labels,
    }


@pytest.fixture(scope="module")
def result(pair):
    return register(pair.fixed, pair.moving, settings=SETTINGS, **masked(pair))


@pytest.fixture(scope="module")
def saved(result, tmp_path_factory):
    """Paths of the files, by attribute."""
    return result.save(tmp_path_factory.mktemp("saved") / "new" / "out")


@pytest.fixture
def brain_mask(pair):
    return images.read_mask(pair.fixed_mask)


def test_images_become_more_alike(result):
    similarity, labels = result.summary["similarity"], result.summary["labels"]
    assert 0 < similarity["before"] < similarity["after"] - 0.05 < 1
    assert labels["after"]["mean"]["dice"] > labels["before"]["mean"]["dice"]
    assert result.summary["jacobian"]["folded"] == 0
    consistency = result.summary["inverse_consistency_mm"]
    assert consistency["mean"] < 0.05
    assert consistency["p99"] < 0.2
    first, last = result.summary["stages"][0]["loss"]
    assert last < first


def test_files_are_complete_and_on_native_grids(saved, pair):
    assert set(FILES) - set(saved) == {"uncertainty", "uncertainty_components"}
    assert {path.name for path in saved["summary"].parent.iterdir()} == {
        FILES[name] for name in saved
    }
    fixed, moving = nib.load(pair.fixed), nib.load(pair.moving)
    on_fixed = ("warped", "warped_labels", "log_jacobian", "displacement")
    for name in (*on_fixed, "inverse_warped", "inverse_displacement"):
        image, reference = nib.load(saved[name]), fixed if name in on_fixed else moving
        assert image.shape[:3] == reference.shape
        np.testing.assert_array_equal(image.affine, reference.affine)
        assert image.header["sform_code"] > 0
        assert image.header["qform_code"] > 0
    assert load(saved["warped_labels"]).dtype == load(pair.moving_labels).dtype


def test_summary_is_complete(saved, pair):
    summary = json.loads(saved["summary"].read_text())
    assert {"read", "prepare", "optimize", "maps", "resample", "write"} <= set(summary["seconds"])
    parts = [value for name, value in summary["seconds"].items() if name != "total"]
    assert summary["seconds"]["total"] == pytest.approx(sum(parts))
    assert {"torch", "numpy", "SimpleITK", "nibabel", "python"} <= set(summary["versions"])
    parameters = summary["parameters"]
    assert parameters["kernel"] == SETTINGS.kernel.as_dict()
    assert parameters["stages"][0] == {"image": 4, "velocity": 4, "iterations": 12}
    assert parameters["device"] == "cpu"
    assert parameters["seed"] == 0
    assert summary["inputs"]["moving"] == str(pair.moving)
    assert summary["inputs"]["fixed_lesion_mask"] is None
    mask = summary["masks"]["fixed_mask"]
    assert mask["file"] == str(pair.fixed_mask)
    assert mask["used"]
    volume = 8.0 * np.count_nonzero(load(pair.fixed_mask))
    assert mask["voxels"] == pytest.approx(volume, rel=0.15)
    assert summary["masks"]["moving_lesion_mask"] == {"file": None, "used": False, "voxels": 0}


def test_simpleitk_applies_the_composites_alike(saved, pair):
    for name, moving, fixed in (
        ("warped", pair.moving, pair.fixed),
        ("inverse_warped", pair.fixed, pair.moving),
    ):
        composite = saved["composite" if name == "warped" else "inverse_composite"]
        expected = sitk.Resample(
            sitk.ReadImage(str(moving), sitk.sitkFloat32),
            sitk.ReadImage(str(fixed)),
            sitk.ReadTransform(str(composite)),
            sitk.sitkLinear,
        )
        actual = load(saved[name])
        np.testing.assert_allclose(sitk.GetArrayFromImage(expected).T, actual, atol=0.05)
        assert actual.max() > 400  # intensities are those of the native image


def test_displacements_are_the_composites(saved, brain_mask):
    for composite, field in (
        ("composite", "displacement"),
        ("inverse_composite", "inverse_displacement"),
    ):
        chain = transforms.read_transform(saved[composite])
        data, grid = transforms.read_displacement(saved[field])
        np.testing.assert_allclose(data, transforms.displacement_on_grid(chain, grid), atol=1e-4)


def test_nitransforms_reads_the_transforms(saved, pair):
    # At the fields' own voxels, between which nitransforms interpolates by cubics. Moving points
    # come to those of the working grid by the inverse of the affine.
    voxels = read_momentum(saved["momentum"]).working_grid.coordinates().reshape(-1, 3)
    to_moving = transforms.read_affine(pair.affine)
    for name, points in (
        ("composite", voxels),
        ("inverse_composite", apply_affine(to_moving, voxels)),
    ):
        chain = nitransforms.manip.load(saved[name], fmt="itk")
        chain.reference = str(pair.fixed)
        ours = transforms.map_points(transforms.read_transform(saved[name]), points)
        np.testing.assert_allclose(chain.map(points), ours, atol=1e-3)
    for name, image in (("displacement", pair.fixed), ("inverse_displacement", pair.moving)):
        points = Grid.from_file(image).coordinates().reshape(-1, 3)
        ours = transforms.map_points(transforms.read_transform(saved[name]), points)
        theirs = nitransforms.nonlinear.load(saved[name], fmt="itk").map(points)
        np.testing.assert_allclose(theirs, ours, atol=1e-3)


def test_log_jacobian_is_that_of_the_whole_map(pair, tmp_path):
    """The affine counts: with one that doubles lengths, volume grows eightfold."""
    double = transforms.write_affine(tmp_path / "double.mat", np.diag([2.0, 2, 2, 1]))
    grown = register(pair.fixed, pair.fixed, affine=double)
    fixed = Grid.from_file(pair.fixed)
    halve = transforms.affine_transform(np.diag([0.5, 0.5, 0.5, 1]))
    deformation = transforms.compose([halve, grown.composite])
    own = log_jacobian(transforms.displacement_on_grid(deformation, fixed), fixed)
    np.testing.assert_allclose(grown.log_jacobian, own + np.log(8), atol=1e-3)


def test_shooting_the_momentum_gives_the_same_map(saved, pair, brain_mask, tmp_path):
    arguments = ["--momentum", str(saved["momentum"]), "--output-dir", str(tmp_path / "shot")]
    assert main(["shoot", "--quiet", "--device", "cpu", *arguments]) == 0
    affine = transforms.read_transform(pair.affine)
    warp = transforms.read_transform(tmp_path / "shot" / "displacement.nii.gz")
    back = transforms.read_transform(tmp_path / "shot" / "inverse_displacement.nii.gz")
    chain = transforms.compose([affine, warp])
    composite = transforms.read_transform(saved["composite"])
    assert transform_distance(chain, composite, brain_mask)["max"] < 1e-3
    there_and_back = transforms.compose([back, warp])
    nothing = transforms.affine_transform(np.eye(4))
    assert transform_distance(there_and_back, nothing, brain_mask)["p99"] < 0.2
    summary = json.loads((tmp_path / "shot" / "summary.json").read_text())
    assert summary["jacobian"]["folded"] == 0
    assert summary["energy"]["initial"] > 0
    assert len(summary["energy"]["path"]) == SETTINGS.steps + 1
    grid = Grid.from_file(tmp_path / "shot" / "log_jacobian.nii.gz")
    assert grid.equals(read_momentum(saved["momentum"]).working_grid)


@pytest.fixture
def conformed(pair, tmp_path):
    """The prepared pair on disk, as arguments of `optimize_files`."""
    inputs = masked(pair) | {"fixed_labels": None, "moving_labels": None}
    prepared = prepare(read_inputs(pair.fixed, pair.moving, **inputs))
    paths = {}
    for name in ("fixed", "moving"):
        data = getattr(prepared, name)
        for stem, content in ((name, data), (f"{name}_mask", (data > 0).astype(np.uint8))):
            path = tmp_path / f"{stem}.nii.gz"
            paths[stem] = images.write_image(path, content, prepared.grid.affine)
    return paths


def test_optimizing_and_shooting_equals_registering(conformed, result, tmp_path, brain_mask):
    pair = conformed["fixed"], conformed["moving"]
    masks = {name: conformed[name] for name in ("fixed_mask", "moving_mask")}
    options = {"masks": masks, "device": CPU, "seed": 0, "settings": SETTINGS}
    optimized = optimize_files(*pair, initial_momentum=None, **options)
    before, after = (run.summary["similarity"]["after"] for run in (optimized, result))
    assert before == pytest.approx(after, rel=1e-3)
    path = write_momentum(tmp_path / "momentum.nii.gz", optimized.momentum)
    shoot_file(path, tmp_path / "shot", CPU)
    ours = transforms.read_transform(tmp_path / "shot" / "displacement.nii.gz")
    field = transforms.displacement_on_grid(ours, result.momentum.working_grid)
    composite = transforms.displacement_on_grid(result.composite, result.momentum.working_grid)
    np.testing.assert_allclose(field + np.array([3, 0, 0]), composite, atol=0.02)

    refined = optimize_files(*pair, initial_momentum=path, **options)
    assert [stage["stage"] for stage in refined.summary["stages"]] == [2]
    assert refined.summary["inputs"]["initial_momentum"] == str(path)
    losses = [run.summary["stages"][-1]["loss"][-1] for run in (refined, optimized)]
    assert losses[0] < losses[1] * 1.05


def test_optimize_command_writes_momentum_and_summary(conformed, tmp_path):
    options = [f"--{name.replace('_', '-')}={path}" for name, path in conformed.items()]
    outputs = ["--output", tmp_path / "m.nii.gz", "--output-json", tmp_path / "m.json"]
    options += ["--iterations", ONCE, "--device", "cpu", "--quiet", *map(str, outputs)]
    assert main(["optimize", *options]) == 0
    momentum = read_momentum(tmp_path / "m.nii.gz")
    assert momentum.working_grid.equals(Grid.from_file(conformed["fixed"]))
    summary = json.loads((tmp_path / "m.json").read_text())
    assert summary["masks"]["moving_mask"]["used"]
    other = [*options, "--initial-momentum", str(tmp_path / "m.nii.gz")]
    assert main(["optimize", *other]) == 0


def test_a_momentum_of_another_grid_is_refused(conformed, result, tmp_path):
    pair = conformed["fixed"], conformed["moving"]
    shift = np.eye(4)
    shift[0, 3] = 1
    moved = {
        name: Grid(grid.shape, shift @ grid.affine)
        for name in ("grid", "working_grid")
        for grid in [getattr(result.momentum, name)]
    }
    path = write_momentum(tmp_path / "momentum.nii.gz", replace(result.momentum, **moved))
    options = {"masks": {}, "device": CPU, "seed": 0}
    with pytest.raises(nipype_quicksilver.InputError, match="not on the images' working grid"):
        optimize_files(*pair, initial_momentum=path, settings=QUICK, **options)


def test_two_runs_give_the_same_bytes(pair, tmp_path):
    for name in ("first", "second"):
        register(pair.fixed, pair.moving, **masked(pair)).save(tmp_path / name)
    for file in ("momentum.nii.gz", "warped.nii.gz", "displacement.nii.gz"):
        first, second = ((tmp_path / name / file).read_bytes() for name in ("first", "second"))
        assert first == second


def reoriented(path, codes, folder):
    image = nib.load(path)
    turn = nib.orientations.ornt_transform(
        nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(codes)
    )
    turned = image.as_reoriented(turn)
    nib.save(turned, folder / path.name)
    return folder / path.name


def test_orientation_on_disk_does_not_matter(pair, tmp_path, brain_mask):
    usual = register(pair.fixed, pair.moving, **masked(pair))
    fixed = reoriented(pair.fixed, "LIA", tmp_path)
    moving = reoriented(pair.moving, "PSR", tmp_path)
    options = {"fixed_mask": pair.fixed_mask, "moving_mask": pair.moving_mask}
    turned = register(fixed, moving, affine=pair.affine, **options)
    assert transform_distance(usual.composite, turned.composite, brain_mask)["max"] < 1e-3
    written = turned.save(tmp_path / "out")
    back = reoriented(written["warped"], nib.aff2axcodes(nib.load(pair.fixed).affine), tmp_path)
    np.testing.assert_allclose(load(back), usual.warped, atol=0.5)


def test_masks_may_be_on_any_grid(pair, tmp_path, brain_mask):
    mask = images.read_mask(pair.fixed_mask)
    fine = Grid(tuple(2 * n for n in mask.shape), Grid.from_image(mask).affine @ FINER)
    data = np.repeat(np.repeat(np.repeat(np.asanyarray(mask.dataobj), 2, 0), 2, 1), 2, 2)
    path = images.write_image(tmp_path / "fine.nii.gz", data, fine.affine)
    usual = prepare(read_inputs(pair.fixed, pair.moving, fixed_mask=pair.fixed_mask))
    other = prepare(read_inputs(pair.fixed, pair.moving, fixed_mask=path))
    assert other.grid.equals(usual.grid)
    assert np.mean(other.weight != usual.weight) < 0.01
    assert other.masks["fixed_mask"]["voxels"] == pytest.approx(
        usual.masks["fixed_mask"]["voxels"], rel=0.03
    )


# A voxel cut into eight: the first of them lies a quarter of a voxel before its centre.
FINER = np.array([[0.5, 0, 0, -0.25], [0, 0.5, 0, -0.25], [0, 0, 0.5, -0.25], [0, 0, 0, 1.0]])


@pytest.fixture
def lesions(pair, tmp_path):
    """Images with a bright lesion on one side each, and masks of the lesions."""
    paths = {}
    for name, center in (("fixed", (6, 4, 2)), ("moving", (-3, -4, -2))):
        image = nib.load(getattr(pair, name))
        grid = Grid.from_image(image)
        lesion = np.linalg.norm(grid.coordinates() - center, axis=-1) < 4.5
        data = np.where(lesion, 3000, load(getattr(pair, name))).astype(np.int16)
        for stem, content in ((name, data), (f"{name}_lesion", lesion)):
            path = tmp_path / f"{stem}.nii.gz"
            paths[stem] = images.write_image(path, content, grid.affine)
    return paths


def test_masked_lesions_do_not_drive_the_registration(pair, lesions, brain_mask):
    options = {"fixed_mask": pair.fixed_mask, "moving_mask": pair.moving_mask}
    options |= {"affine": pair.affine, "settings": replace(SETTINGS, similarity="ssd")}
    truth = register(pair.fixed, pair.moving, **options)
    hidden = {
        "fixed_lesion_mask": lesions["fixed_lesion"],
        "moving_lesion_mask": lesions["moving_lesion"],
    }
    seen = register(lesions["fixed"], lesions["moving"], **options)
    masked_out = register(lesions["fixed"], lesions["moving"], **options, **hidden)
    for name, path in hidden.items():
        facts = masked_out.summary["masks"][name]
        assert facts["file"] == str(path)
        assert facts["used"]
        volume = np.prod(Grid.from_file(path).spacing) * np.count_nonzero(load(path))
        assert facts["voxels"] == pytest.approx(volume, rel=0.25)
    apart = [
        transform_distance(truth.composite, other.composite, brain_mask)["mean"]
        for other in (masked_out, seen)
    ]
    assert apart[0] < 0.7 * apart[1]


def test_a_lesion_mask_off_the_working_grid_is_told(pair, tmp_path):
    grid = Grid.from_file(pair.fixed)
    corner = np.zeros(grid.shape, np.uint8)
    small = Grid(grid.shape, grid.affine @ np.diag([0.01, 0.01, 0.01, 1]))
    corner[:2, :2, :2] = 1
    path = images.write_image(tmp_path / "speck.nii.gz", corner, small.affine)
    options = {"fixed_mask": pair.fixed_mask, "fixed_lesion_mask": path}
    with pytest.warns(UserWarning, match="covers no voxel of the working grid"):
        prepared = prepare(read_inputs(pair.fixed, pair.moving, **options))
    assert not prepared.masks["fixed_lesion_mask"]["used"]


def test_the_working_grid_holds_both_brains(pair, tmp_path):
    prepared = prepare(read_inputs(pair.fixed, pair.moving))
    both = [load(pair.fixed) != 0, load(pair.moving) != 0]
    for brain, path in zip(both, (pair.fixed, pair.moving), strict=True):
        points = Grid.from_file(path).coordinates()[brain]
        low = prepared.grid.affine[:3, 3]
        high = low + np.array(prepared.grid.shape) - 1
        assert np.all(points.min(axis=0) - low >= 9)
        assert np.all(high - points.max(axis=0) >= 9)
    assert prepared.grid.spacing == (1.0, 1.0, 1.0)
    assert all(n % 8 == 0 for n in prepared.grid.shape)
    assert prepared.fixed.max() <= 1.5
    assert np.percentile(prepared.fixed[prepared.fixed > 0], 99.5) == pytest.approx(1, abs=0.01)


def test_importing_the_api_does_not_import_torch():
    import subprocess
    import sys

    program = "import sys, nipype_quicksilver.registration; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
