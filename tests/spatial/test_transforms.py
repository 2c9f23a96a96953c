"""SimpleITK, nitransforms and this package read transforms in the same way."""

from pathlib import Path

import nibabel as nib
import nitransforms as nt
import numpy as np
import pytest
import SimpleITK as sitk
from nibabel.affines import apply_affine, from_matvec
from nibabel.eulerangles import euler2mat
from nitransforms.io.itk import ITKCompositeH5

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial import images, transforms
from nipype_quicksilver.spatial.grids import Grid

RNG = np.random.default_rng(3)
SHAPE = (6, 7, 8)
TILT = euler2mat(0.1, -0.2, 0.3)
AFFINES = {
    "RAS": from_matvec(np.eye(3), [-3, 4, 5]),
    "LAS": from_matvec(np.diag([-1, 1, 1]), [3, -4, 5]),
    "LIA": from_matvec(np.array([[-1.0, 0, 0], [0, 0, 1], [0, -1, 0]]), [3, 4, -5]),
    "oblique": from_matvec(TILT, [3, 4, 5]),
    "anisotropic": from_matvec(TILT @ np.diag([-0.8, 1, 3]), [3, 4, 5]),
}
MATRIX = from_matvec(euler2mat(0.2, 0.1, -0.3) @ np.diag([1.1, 0.9, 1]), [5, -6, 7])
LPS = np.diag([-1.0, -1, 1])


@pytest.fixture(params=AFFINES)
def grid(request) -> Grid:
    return Grid(SHAPE, AFFINES[request.param])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "my data"
    path.mkdir()
    return path


@pytest.fixture
def field() -> np.ndarray:
    return RNG.normal(scale=2, size=(*SHAPE, 3)).astype(np.float32)


def inner(grid: Grid) -> tuple[np.ndarray, tuple]:
    """Voxel centres off the border, beyond which the tools extrapolate differently."""
    where = (slice(1, -1),) * 3
    return grid.coordinates()[where].reshape(-1, 3), where


def by_itk(transform: sitk.Transform, points: np.ndarray) -> np.ndarray:
    """Map RAS points by a transform that SimpleITK read, without this package."""
    return np.array([transform.TransformPoint(p) for p in (points @ LPS).tolist()]) @ LPS


@pytest.mark.parametrize("suffix", [".mat", ".txt", ".tfm", ".h5"])
def test_affine(folder, suffix):
    path = transforms.write_affine(folder / f"a{suffix}", MATRIX)
    points = RNG.normal(scale=50, size=(20, 3))
    expected = apply_affine(MATRIX, points)
    np.testing.assert_allclose(transforms.read_affine(path), MATRIX, atol=1e-9)
    np.testing.assert_allclose(by_itk(sitk.ReadTransform(str(path)), points), expected, atol=1e-3)
    mapped = transforms.map_points(transforms.read_transform(path), points)
    np.testing.assert_allclose(mapped, expected, atol=1e-9)


@pytest.mark.parametrize("suffix", [".mat", ".txt", ".tfm"])
def test_affine_by_nitransforms(folder, suffix):
    path = transforms.write_affine(folder / f"a{suffix}", MATRIX)
    points = RNG.normal(scale=50, size=(20, 3))
    mapped = nt.linear.load(path, fmt="itk").map(points)
    np.testing.assert_allclose(mapped, apply_affine(MATRIX, points), atol=1e-3)


def test_affine_written_by_others(folder):
    """Rotations about a centre, ANTs' class name, and chains of linear transforms."""
    euler = sitk.Euler3DTransform((1.0, 2, 3), 0.1, 0.2, 0.3, (4.0, 5, 6))
    points = RNG.normal(scale=50, size=(20, 3))
    sitk.WriteTransform(euler, str(folder / "e.tfm"))
    matrix = transforms.read_affine(folder / "e.tfm")
    np.testing.assert_allclose(apply_affine(matrix, points), by_itk(euler, points), atol=1e-9)

    sitk.WriteTransform(sitk.CompositeTransform([euler, euler]), str(folder / "c.h5"))
    chained = transforms.read_affine(folder / "c.h5")
    np.testing.assert_allclose(chained, matrix @ matrix, atol=1e-9)

    (folder / "m.txt").write_text(
        "#Insight Transform File V1.0\n#Transform 0\n"
        "Transform: MatrixOffsetTransformBase_double_3_3\n"
        "Parameters: 1 0 0 0 1 0 0 0 1 4 5 6\nFixedParameters: 0 0 0\n"
    )
    assert transforms.read_affine(folder / "m.txt")[:3, 3].tolist() == [-4, -5, 6]


def test_displacement(folder, grid, field):
    path = transforms.write_displacement(folder / "w.nii.gz", field, grid)
    points, where = inner(grid)
    expected = points + field[where].reshape(-1, 3)

    back, back_grid = transforms.read_displacement(path)
    np.testing.assert_array_equal(back, field)
    assert back_grid.equals(grid)
    mapped = transforms.map_points(transforms.read_transform(path), points)
    np.testing.assert_allclose(mapped, expected, atol=1e-3)

    image = sitk.ReadImage(str(path), sitk.sitkVectorFloat64)
    itk = sitk.DisplacementFieldTransform(image)
    np.testing.assert_allclose(by_itk(itk, points), expected, atol=1e-3)

    # At voxel centres only: between them nitransforms interpolates with cubics, ITK linearly.
    dense = nt.nonlinear.load(path, fmt="itk")
    np.testing.assert_allclose(dense.map(points), expected, atol=1e-3)


def test_displacement_header(folder, grid, field):
    image = nib.load(transforms.write_displacement(folder / "w.nii.gz", field, grid))
    header = image.header
    assert image.shape == (*SHAPE, 1, 3) and image.get_data_dtype() == np.float32
    assert int(header["intent_code"]) == 1007
    assert int(header["sform_code"]) > 0 and int(header["qform_code"]) > 0
    np.testing.assert_allclose(header.get_qform(), grid.affine, atol=1e-4)
    stored = np.asanyarray(image.dataobj)[:, :, :, 0]
    np.testing.assert_allclose(stored, field @ LPS, atol=1e-6)


def test_composite(folder, grid, field):
    chain = transforms.compose(
        [transforms.affine_transform(MATRIX), transforms.displacement_transform(field, grid)]
    )
    path = transforms.write_composite(folder / "x.h5", chain)
    points, where = inner(grid)
    expected = apply_affine(MATRIX, points + field[where].reshape(-1, 3))
    read = transforms.read_transform(path)
    np.testing.assert_allclose(transforms.map_points(read, points), expected, atol=1e-3)
    itk = sitk.ReadTransform(str(path))
    assert itk.GetTransformEnum() == sitk.sitkComposite
    np.testing.assert_allclose(by_itk(itk, points), expected, atol=1e-3)

    affine, warp = ITKCompositeH5.from_filename(path)
    # The field's voxel centres again, so that no interpolation takes part.
    warped = grid.coordinates() + np.asanyarray(warp.dataobj)
    np.testing.assert_allclose(warp.affine, grid.affine, atol=1e-4)
    np.testing.assert_allclose(
        apply_affine(affine.to_ras(), warped[where].reshape(-1, 3)), expected, atol=1e-3
    )


def test_composite_of_one(folder):
    path = transforms.write_composite(folder / "x.h5", transforms.affine_transform(MATRIX))
    assert sitk.ReadTransform(str(path)).GetTransformEnum() == sitk.sitkComposite
    np.testing.assert_allclose(transforms.read_affine(path), MATRIX, atol=1e-9)


def test_order():
    double = transforms.affine_transform(np.diag([2.0, 2, 2, 1]))
    shift = transforms.affine_transform(from_matvec(np.eye(3), [1, 0, 0]))
    point = np.array([[10.0, 0, 0]])
    last_first = transforms.compose([double, shift])
    assert transforms.map_points(last_first, point)[0, 0] == 22
    as_in_ants = transforms.compose_ants([double, shift])
    assert transforms.map_points(as_in_ants, point)[0, 0] == 21
    nested = transforms.compose([last_first, shift])
    assert nested.GetNumberOfTransforms() == 3
    assert transforms.map_points(nested, point)[0, 0] == 24


def test_displacement_on_grid(grid):
    expected = apply_affine(MATRIX, grid.coordinates()) - grid.coordinates()
    sampled = transforms.displacement_on_grid(transforms.affine_transform(MATRIX), grid)
    assert sampled.shape == (*SHAPE, 3) and sampled.dtype == np.float32
    np.testing.assert_allclose(sampled, expected, atol=1e-4)


def test_field_is_unchanged_on_its_own_grid(grid, field):
    """At the border too."""
    warp = transforms.displacement_transform(field, grid)
    np.testing.assert_allclose(transforms.displacement_on_grid(warp, grid), field, atol=1e-3)


def test_field_between_voxels_is_linear():
    field = np.zeros((4, 4, 4, 3), np.float32)
    field[2, 1, 1, 0] = 8
    warp = transforms.displacement_transform(field, Grid((4, 4, 4), np.eye(4)))
    mapped = transforms.map_points(warp, np.array([[1.75, 1, 1], [1.5, 1.5, 1], [9, 9, 9]]))
    np.testing.assert_allclose(mapped, [[7.75, 1, 1], [3.5, 1.5, 1], [9, 9, 9]], atol=1e-6)


def refused(call, path: Path, word: str) -> None:
    with pytest.raises(InputError) as caught:
        call(path)
    assert str(caught.value).startswith(f"{path}: ") and word in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("call", [transforms.read_affine, transforms.read_transform])
def test_refused_files(folder, call):
    refused(call, folder / "no.mat", "no such file")
    refused(call, folder, "folder")
    for name in ("a.mat", "a.txt", "a.tfm", "a.h5"):
        (folder / name).write_text("1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n")
        refused(call, folder / name, "not an ITK transform")
    (folder / "a.lta").write_text("type = 1")
    refused(call, folder / "a.lta", "not a transform file")
    sitk.WriteTransform(sitk.Euler2DTransform(), str(folder / "2d.tfm"))
    refused(call, folder / "2d.tfm", "3-D")


@pytest.mark.parametrize("fraction", [0.1, 0.6, 0.999])
def test_truncated_composite(folder, field, fraction, capfd):
    """Messages of HDF5 are suppressed."""
    warp = transforms.displacement_transform(field, Grid(SHAPE, np.eye(4)))
    path = transforms.write_composite(folder / "w.h5", warp)
    path.write_bytes(path.read_bytes()[: int(fraction * path.stat().st_size)])
    refused(transforms.read_transform, path, "not an ITK transform")
    assert capfd.readouterr().err == ""


def test_refused_affines(folder, field):
    warp = transforms.displacement_transform(field, Grid(SHAPE, np.eye(4)))
    path = transforms.write_composite(folder / "w.h5", warp)
    refused(transforms.read_affine, path, "not a linear transform")
    flat = sitk.AffineTransform(3)
    flat.SetMatrix((1, 0, 0, 0, 1, 0, 0, 0, 1e-9))
    sitk.WriteTransform(flat, str(folder / "flat.txt"))
    refused(transforms.read_affine, folder / "flat.txt", "inverted")


def test_reflections_are_refused_on_request(folder):
    mirror = np.diag([-1.0, 1, 1, 1])
    path = transforms.write_affine(folder / "mirror.mat", mirror)
    np.testing.assert_array_equal(transforms.read_affine(path), mirror)

    def proper(file):
        return transforms.read_affine(file, allow_reflection=False)

    refused(proper, path, "contains a reflection")


def test_refused_displacements(folder, field):
    read = transforms.read_transform
    images.write_image(folder / "a.nii", field, np.eye(4))
    refused(read, folder / "a.nii", "5-D")
    images.write_image(folder / "a.nii", field[:, :, :, 0], np.eye(4))
    refused(read, folder / "a.nii", "5-D")
    no_intent = nib.Nifti1Image(field[:, :, :, None], np.eye(4))
    nib.save(no_intent, folder / "b.nii")
    refused(read, folder / "b.nii", "vector intent")
    field[1, 2, 3, 0] = np.nan
    transforms.write_displacement(folder / "c.nii", field, Grid(SHAPE, np.eye(4)))
    refused(read, folder / "c.nii", "NaN")


@pytest.mark.parametrize("name", ["x.nii.gz", "x.xfm", "x"])
def test_refused_suffixes(folder, name):
    refused(lambda path: transforms.write_affine(path, MATRIX), folder / name, ".mat")
    warp = transforms.affine_transform(MATRIX)
    refused(lambda path: transforms.write_composite(path, warp), folder / name, ".h5")
