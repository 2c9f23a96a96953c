"""What files say is believed within limits, and memory is bounded before it is asked for."""

import gzip
import math
import re
import struct
import tracemalloc

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from nipype_quicksilver.cli.main import main
from nipype_quicksilver.errors import InputError, is_out_of_memory
from nipype_quicksilver.spatial import images, limits, transforms
from nipype_quicksilver.spatial.grids import Grid
from nipype_quicksilver.spatial.momentum import Momentum, read_momentum, write_momentum
from nipype_quicksilver.spatial.points import read_points

DATA = np.arange(5 * 6 * 7, dtype=np.int16).reshape(5, 6, 7)
READERS = [images.read_image, images.read_labels, images.read_mask, images.read_series]


def save(path, spacing=1.0, origin=0.0, kind=nib.Nifti1Image):
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = origin
    nib.save(kind(DATA, affine), path)
    return path


def patched(path, offset, form, *values):
    """Overwrite numbers in the header of a file, which may be compressed."""
    raw = path.read_bytes()
    content = bytearray(gzip.decompress(raw) if path.suffix in (".gz", ".mgz") else raw)
    struct.pack_into(form, content, offset, *values)
    path.write_bytes(gzip.compress(content) if path.suffix in (".gz", ".mgz") else content)
    return path


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
def test_a_header_is_not_believed_beyond_its_file(name, reader, tmp_path):
    path = patched(save(tmp_path / name), 40, "<4h", 3, 500, 500, 250)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="truncated or damaged"):
            reader(path)
        assert tracemalloc.get_traced_memory()[1] < 20e6  # of 125 MB and more
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz", "x.mgh", "x.mgz"])
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_small_file_with_a_huge_header_is_damaged_and_not_too_large(name, reader, tmp_path):
    is_mgh = name.startswith("x.mg")
    path = save(tmp_path / name, kind=nib.MGHImage if is_mgh else nib.Nifti1Image)
    offset, form = (4, ">3i") if is_mgh else (42, "<3h")
    patched(path, offset, form, 20000, 20000, 12500)
    with pytest.raises(InputError, match="truncated or damaged"):
        reader(path)


def test_an_image_beyond_the_memory_is_refused(tmp_path, monkeypatch):
    path = save(tmp_path / "x.nii.gz")
    needed = DATA.size * (2 + 4)  # as decompressed, and as float32
    monkeypatch.setattr(limits, "machine_memory", lambda: needed - 1)
    with pytest.raises(InputError, match=r"the image needs 1\.26e-06 GB of memory or more"):
        images.read_image(path)
    monkeypatch.setattr(limits, "machine_memory", lambda: needed)
    assert images.read_image(path).shape == DATA.shape


def test_a_reference_beyond_the_memory_is_refused(tmp_path):
    path = patched(save(tmp_path / "reference.nii"), 40, "<4h", 3, 32767, 32767, 32767)
    with pytest.raises(InputError, match=r"grid of the reference image needs 3\.17e\+05 GB"):
        Grid.from_file(path)


def test_memory_that_itk_does_not_get_is_told():
    text = "Exception thrown in SimpleITK: Failed to allocate memory for image."
    assert is_out_of_memory(RuntimeError(text))


def test_axes_that_no_result_can_have(tmp_path):
    path = patched(save(tmp_path / "x.nii", kind=nib.Nifti2Image), 16, "<4q", 3, 2, 2, 32768)
    with pytest.raises(InputError, match="at most 32767 voxels"):
        images.read_header(path)
    field = transforms.write_displacement(
        tmp_path / "field.nii", np.zeros((4, 4, 4, 3)), Grid((4, 4, 4), np.eye(4))
    )
    with pytest.raises(InputError, match="not 3-D"):
        transforms.read_displacement(patched(field, 42, "<h", 0))


@pytest.mark.parametrize(("code", "what"), [(5, "unknown code 5"), (3, "in micrometres")])
def test_units_that_are_not_millimetres(code, what, tmp_path):
    path = patched(save(tmp_path / "x.nii"), 123, "B", code)
    with pytest.raises(InputError, match=f"{what}; convert its header to millimetres"):
        images.read_series(path)


@pytest.mark.parametrize(("code", "seconds"), [(8, 2.0), (16, 0.002), (24, 2e-6), (56, 2.0)])
def test_units_of_time(code, seconds, tmp_path):
    path = tmp_path / "x.nii"
    nib.save(nib.Nifti1Image(np.stack([DATA] * 2, axis=-1), np.eye(4)), path)
    patched(patched(path, 123, "B", 2 + code), 92, "<f", 2.0)
    series = images.read_series(path)
    assert series.header.get_zooms()[3] == pytest.approx(seconds)


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image, nib.MGHImage])
@pytest.mark.parametrize(
    ("spacing", "origin", "message"),
    [
        (1e-6, 0, "voxels of 1e-06 x 1e-06 x 1e-06 mm"),
        (1e4, 0, "voxels of 1e"),
        (1e12, 0, "voxels of 1e"),
        (1.0, 1e8, "voxels at 1e"),
    ],
)
def test_affines_beyond_reason(spacing, origin, message, kind, tmp_path):
    name = "x.mgz" if kind is nib.MGHImage else "x.nii"
    path = save(tmp_path / name, spacing, origin, kind)
    for reader in (images.read_image, Grid.from_file):
        with pytest.raises(InputError, match=message):
            reader(path)


@pytest.mark.parametrize(
    "spacing",
    [1e-4, 1e-3, 0.025, 0.15, 0.3, 1.0, 5.0, 25.0],
    ids=["light", "light-sheet", "mouse atlas", "mouse", "7 T", "head", "clinical", "mouse in um"],
)
def test_real_voxels_are_within_the_limits(spacing, tmp_path):
    path = save(tmp_path / "x.nii.gz", spacing, origin=-200)
    grid = Grid.from_image(images.read_image(path))
    assert grid.spacing == pytest.approx((spacing,) * 3, rel=1e-6)
    output = tmp_path / "out.nii.gz"
    transform = transforms.write_affine(tmp_path / "identity.mat", np.eye(4))
    files = ("--input", path, "--reference", path, "--transform", transform, "--output", output)
    assert main(["apply", "--quiet", *map(str, files)]) == 0
    np.testing.assert_allclose(nib.load(output).get_fdata(), DATA, atol=1e-3)


def test_infinity_in_a_form_of_nifti_2(tmp_path):
    """It is finite in double precision, and was infinite in the single precision of results."""
    path = save(tmp_path / "x.nii", kind=nib.Nifti2Image)
    patched(path, 424, "<d", 1e300)  # the offset of the sform
    with pytest.raises(InputError, match=r"voxels at 1e\+300 mm"):
        images.read_image(path)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.zeros((3, 3)), "cannot be inverted"),
        (np.diag([1.0, 1.0, 0.0]), "cannot be inverted"),
        (np.eye(3) * 1e30, "parameters at 1e"),
        (np.eye(3) * 2e4, "scales by 2e"),
        (np.eye(3) * 1e-6, "scales by 1e-06"),
        (np.diag([1.0, 1.0, math.nan]), "parameters at nan|not an ITK transform"),
    ],
)
@pytest.mark.parametrize("suffix", ["tfm", "mat", "h5"])
def test_transforms_that_map_to_nothing(matrix, message, suffix, tmp_path, capsys):
    path, points = tmp_path / f"t.{suffix}", tmp_path / "points.csv"
    transform = sitk.AffineTransform(3)
    transform.SetParameters([*matrix.ravel().tolist(), 0.0, 0.0, 0.0])
    sitk.WriteTransform(transform, str(path))
    points.write_text("x,y,z\n1,2,3\n")
    output = tmp_path / "out.csv"
    files = ("--input", points, "--transform", path, "--output", output)
    assert main(["apply", *map(str, files)]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and str(path) in error and error.count("\n") == 1
    assert not output.exists()


def test_a_composite_is_checked_part_by_part(tmp_path):
    grid = Grid((4, 4, 4), np.eye(4))
    far = transforms.displacement_transform(np.full((4, 4, 4, 3), 1e7), grid)
    chain = transforms.compose([transforms.affine_transform(np.eye(4)), far])
    path = transforms.write_composite(tmp_path / "c.h5", chain)
    with pytest.raises(InputError, match=r"displacements at 1e\+07 mm"):
        transforms.read_transform(path)


def test_units_of_an_affine_may_differ_by_a_thousand(tmp_path):
    matrix = np.diag([1e-3, 1e-3, 1e-3, 1.0])
    path = transforms.write_affine(tmp_path / "a.mat", matrix)
    np.testing.assert_allclose(transforms.read_affine(path), matrix)


def test_text_that_is_not_utf8(tmp_path):
    path = tmp_path / "t.txt"
    path.write_bytes(b"#Insight Transform File V1.0\nTransform: \xff\xfe_3_3\nParameters: 1\n")
    with pytest.raises(InputError, match="not an ITK transform that can be read"):
        transforms.read_transform(path)


@pytest.mark.parametrize("code", ["import os; os.abort()", "import time; time.sleep(60)"])
def test_a_reader_that_crashes_or_hangs_ends_in_one_line(code, tmp_path, monkeypatch):
    from nipype_quicksilver.spatial import itk

    path = transforms.write_affine(tmp_path / "a.mat", np.eye(4))
    monkeypatch.setattr(itk, "_READING", f"print('ready', flush=True)\n{code}")
    monkeypatch.setattr(itk, "_SECONDS", 0.5)
    with pytest.raises(InputError, match=r"a\.mat: not an ITK transform that can be read"):
        transforms.read_affine(path)


@pytest.mark.parametrize("cell", ["1_000", "1e300", "-2e5", "\u0663", "1e999", "0x10"])
def test_points_beyond_reason(cell, tmp_path):
    path = tmp_path / "points.csv"
    path.write_text(f"x,y,z\n1,2,{cell}\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"line 2: z is "):
        read_points(path)


WORKING = Grid((8, 8, 8), np.eye(4))
KERNEL = {"alpha": 0.01, "beta": 0.01, "gamma": 0.001, "power": 1.0}


@pytest.mark.parametrize(
    ("steps", "kernel", "message"),
    [
        (10**9, {}, "1 to 1000 time steps, not 1000000000"),
        (2.5, {}, "1 to 1000 time steps, not 2.5"),
        (3, {"alpha": 1e30}, "length scale of at most 1000 mm"),
        (3, {"power": 1e6}, "a power of at most 8"),
        (3, {"gamma": 1e-30}, "length scale of at most"),
        (3, {"alpha": 0.0, "beta": 0.0, "gamma": 1e-30}, "a gain of at most 1e12"),
    ],
)
def test_geodesics_that_would_not_end(steps, kernel, message, tmp_path):
    grid = WORKING.subsampled(2)
    data = np.zeros((*grid.shape, 3), np.float32)
    good = Momentum(data, grid, KERNEL, 3, WORKING)
    with pytest.raises(ValueError, match=message):
        Momentum(data, grid, {**KERNEL, **kernel}, steps, WORKING)
    object.__setattr__(good, "kernel", {**KERNEL, **kernel})
    object.__setattr__(good, "steps", steps)
    path = write_momentum(tmp_path / "m.nii.gz", good)
    if steps != 2.5:  # it is written as 2
        with pytest.raises(InputError, match="momentum parameters are damaged") as error:
            read_momentum(path)
        assert message in str(error.value)


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [("x.nii.gz", "x.nii", "x.nii.gz"), ("x.nii", "x.nii.gz", "x.nii")],
)
def test_a_wrong_suffix_is_told(name, wrong, right, tmp_path):
    save(tmp_path / name).rename(tmp_path / wrong)
    with pytest.raises(InputError, match=rf"its suffix is wrong; rename it to {right}$"):
        images.read_image(tmp_path / wrong)
