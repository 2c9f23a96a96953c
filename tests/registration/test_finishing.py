"""Transforms, images and measures on the grids of the user."""

from dataclasses import replace
from types import SimpleNamespace

import nibabel as nib
import nitransforms
import numpy as np
import SimpleITK as sitk
from nibabel.affines import apply_affine, from_matvec
from scipy.spatial.transform import Rotation

from nipype_quicksilver.registration import finishing
from nipype_quicksilver.registration.pair import Frame, ScanFiles, read_pair
from nipype_quicksilver.registration.preparation import prepare
from nipype_quicksilver.spatial import transforms
from nipype_quicksilver.spatial.brains import native_brain
from nipype_quicksilver.spatial.grids import Grid, working_grid
from nipype_quicksilver.spatial.jacobians import log_jacobian
from nipype_quicksilver.spatial.momentum import read_momentum
from nipype_quicksilver.spatial.resampling import conform
from tests.helpers.registrations import load, register


def test_simpleitk_applies_the_composites_equally(saved, pair):
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


def test_transforms_lead_through_the_frame(pair):
    turn = from_matvec(Rotation.from_euler("z", 20, degrees=True).as_matrix() * 1.1, [4, -6, 2])
    scans = read_pair(ScanFiles(pair.fixed), ScanFiles(pair.moving), pair.affine)
    grid = working_grid(native_brain(scans.fixed.image, None), margin_mm=20)
    framed = replace(scans, frame=Frame(grid, turn))
    prepared = prepare(framed, {})
    expected = conform(scans.fixed.image, grid, turn)
    inside = prepared.fixed > 0
    assert np.corrcoef(prepared.fixed[inside], expected[inside])[0, 1] > 0.999
    field = np.full((*grid.shape, 3), [2.0, 0, -1], np.float32)
    maps = SimpleNamespace(inverse=field, forward=-field)
    fit = SimpleNamespace(maps=maps, momentum=SimpleNamespace(working_grid=grid), deforms=True)
    forward, inverse = finishing._transforms(fit, framed)
    points = np.array([[0.0, 0, 0], [3, 5, -2]])
    on_grid = apply_affine(np.linalg.inv(turn), points) + np.array([2, 0, -1])
    mapped = transforms.map_points(forward, points)
    np.testing.assert_allclose(mapped, apply_affine(framed.affine @ turn, on_grid), atol=1e-5)
    np.testing.assert_allclose(transforms.map_points(inverse, mapped), points, atol=1e-5)


def test_uncertainty_is_in_millimetres_of_the_fixed_image(pair):
    """In the frame of a template everything may be twice as large."""
    scans = read_pair(ScanFiles(pair.fixed), ScanFiles(pair.moving))
    fixed, brain = nib.load(pair.fixed), nib.load(pair.fixed_mask)
    to_fixed = np.diag([0.5, 0.5, 0.5, 1])
    grid = Grid(fixed.shape, np.linalg.inv(to_fixed) @ fixed.affine)
    framed = replace(scans, frame=Frame(grid, to_fixed))
    variance = np.full((*fixed.shape, 3), 3.0, np.float32)  # 3 mm there, over all components
    prepared = SimpleNamespace(grid=grid)
    uncertainty, components = finishing._uncertainty(framed, prepared, variance, True)
    inside = np.asanyarray(brain.dataobj) > 0
    np.testing.assert_allclose(uncertainty[inside], 1.5, rtol=1e-5)
    np.testing.assert_allclose(components[inside], 0.75, rtol=1e-5)
