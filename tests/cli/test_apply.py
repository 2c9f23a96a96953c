import argparse
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from nipype_quicksilver.cli import apply
from nipype_quicksilver.cli.main import main
from nipype_quicksilver.options import APPLY_INTERPOLATIONS
from nipype_quicksilver.spatial.transforms import (
    affine_transform,
    compose,
    displacement_transform,
    map_points,
    read_transform,
    write_affine,
    write_composite,
    write_displacement,
)

SHIFT = (4.0, 3.0, -2.0)  # RAS mm: two voxels of `grid` along each axis


def run(*arguments):
    assert main(["apply", "--quiet", *(str(argument) for argument in arguments)]) == 0


def translation(shift):
    matrix = np.eye(4)
    matrix[:3, 3] = shift
    return matrix


@pytest.fixture
def shift_file(tmp_path):
    return write_affine(tmp_path / "shift.mat", translation(SHIFT))


@pytest.fixture
def dot(grid, save):
    """A bright voxel, its file and its place in the world (RAS mm)."""
    data = np.zeros(grid.shape, np.float32)
    data[6, 7, 8] = 100
    return save("dot.nii.gz", data, grid), grid.affine[:3] @ [6, 7, 8, 1]


@pytest.fixture
def reference(grid, save):
    """The grid of the moving image moved by a voxel: no header may be ignored."""
    affine = grid.affine.copy()
    affine[:3, 3] += 1.0
    moved = type(grid)((13, 14, 15), affine)
    return save("reference.nii.gz", np.zeros(moved.shape, np.uint8), moved), moved


def write_csv(path, points, header="x,y,z"):
    path.write_text(header + "\n" + "".join(f"{x},{y},{z}\n" for x, y, z in points))
    return path


def read_csv(path):
    return np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)


@pytest.mark.parametrize("interpolation", APPLY_INTERPOLATIONS)
def test_every_interpolation_resamples(interpolation, grid, save, shift_file, tmp_path):
    data = np.zeros(grid.shape, np.uint8)
    data[4:9, 5:10, 6:11] = 7
    image, output = save("block.nii.gz", data, grid), tmp_path / "out.nii.gz"
    files = ("--input", image, "--reference", image, "--transform", shift_file)
    run(*files, "--output", output, "--interpolation", interpolation)
    # Two voxels along each axis; what is inside a block stays as bright.
    assert nib.load(output).get_fdata()[8, 5, 10] == pytest.approx(7, abs=0.5)


def test_images_and_points_go_opposite_ways(dot, grid, shift_file, tmp_path):
    """The transform fixed -> moving adds SHIFT: a moving landmark ends SHIFT before its place."""
    image, place = dot
    output, points = tmp_path / "out.nii.gz", tmp_path / "points.csv"
    run("--input", image, "--reference", image, "--transform", shift_file, "--output", output)
    warped = nib.load(output)
    peak = np.unravel_index(np.argmax(warped.get_fdata()), grid.shape)
    fixed_place = warped.affine[:3] @ [*peak, 1]
    np.testing.assert_allclose(fixed_place, place - SHIFT, atol=1e-4)

    write_csv(tmp_path / "fixed.csv", [fixed_place])
    run("--input", tmp_path / "fixed.csv", "--transform", shift_file, "--output", points)
    np.testing.assert_allclose(read_csv(points), [place], atol=1e-5)
    write_csv(tmp_path / "moving.csv", [place])
    inverse = f"[{shift_file},1]"
    run("--input", tmp_path / "moving.csv", "--transform", inverse, "--output", points)
    np.testing.assert_allclose(read_csv(points), [fixed_place], atol=1e-5)


def test_order_of_transforms_is_that_of_ants(grid, tmp_path):
    """With warp and affine listed in this order, a point goes through the warp first."""
    affine = write_affine(tmp_path / "affine.mat", np.diag([2.0, 2.0, 2.0, 1.0]))
    field = np.full((*grid.shape, 3), (1.0, 0.0, 0.0), np.float32)
    warp = write_displacement(tmp_path / "warp.nii.gz", field, grid)
    center = grid.affine[:3] @ [6, 7, 8, 1]
    points = write_csv(tmp_path / "in.csv", [center])
    arguments = ["--input", points, "--output", tmp_path / "out.csv"]
    run(*arguments, "--transform", warp, "--transform", affine)
    np.testing.assert_allclose(read_csv(tmp_path / "out.csv"), [2 * (center + np.eye(3)[0])])
    # The inverse of the chain lists the inverses the other way round.
    back = write_displacement(tmp_path / "back.nii.gz", -field, grid)
    arguments = ["--input", tmp_path / "out.csv", "--output", tmp_path / "back.csv"]
    run(*arguments, "--transform", f"[{affine},1]", "--transform", back)
    np.testing.assert_allclose(read_csv(tmp_path / "back.csv"), [center], atol=1e-5)


def test_composite_gives_what_its_parts_give(dot, grid, reference, tmp_path):
    image, _ = dot
    target, target_grid = reference
    rng = np.random.default_rng(0)
    field = rng.normal(scale=0.3, size=(*grid.shape, 3)).astype(np.float32)
    matrix = translation((0.5, -0.25, 0.75)) @ np.diag([1.1, 0.9, 1.0, 1.0])
    affine = write_affine(tmp_path / "a.txt", matrix)
    warp = write_displacement(tmp_path / "w.nii.gz", field, grid)
    chain = compose([affine_transform(matrix), displacement_transform(field, grid)])
    composite = write_composite(tmp_path / "c.h5", chain)
    common = ["--input", image, "--reference", target]
    run(*common, "--transform", composite, "--output", tmp_path / "one.nii.gz")
    run(*common, "--transform", warp, "--transform", affine, "--output", tmp_path / "two.nii.gz")
    one, two = nib.load(tmp_path / "one.nii.gz"), nib.load(tmp_path / "two.nii.gz")
    assert one.get_fdata().max() > 10
    np.testing.assert_allclose(one.get_fdata(), two.get_fdata(), atol=1e-3)
    np.testing.assert_allclose(one.affine, target_grid.affine)
    assert one.shape == target_grid.shape

    resampled = sitk.Resample(
        sitk.ReadImage(str(image)),
        sitk.ReadImage(str(target)),
        read_transform(composite),
        sitk.sitkLinear,
        0.0,
        sitk.sitkFloat32,
    )
    expected = sitk.GetArrayFromImage(resampled).T
    np.testing.assert_allclose(one.get_fdata(), expected, atol=1e-3)


@pytest.mark.parametrize("interpolation", ["NearestNeighbor", "GenericLabel", "MultiLabel"])
@pytest.mark.parametrize("stored", [np.int16, np.float32])
def test_labels_keep_their_values(interpolation, stored, grid, save, shift_file, tmp_path):
    data = np.zeros(grid.shape, stored)
    data[4:9, 4:9, 4:9] = 2
    data[4:9, 4:9, 9:12] = 1042
    image, output = save("labels.nii.gz", data, grid), tmp_path / "out.nii.gz"
    arguments = ["--input", image, "--reference", image, "--transform", shift_file]
    run(*arguments, "--interpolation", interpolation, "--output", output)
    warped = nib.load(output)
    assert set(np.unique(warped.get_fdata())) == {0, 2, 1042}
    if stored is np.int16:
        assert warped.get_data_dtype() == np.int16
    if interpolation == "MultiLabel":
        return  # rounds the corners
    # Axis x of the grid is flipped: +4 mm are two voxels down.
    np.testing.assert_array_equal(warped.get_fdata()[2:10, 2:12, 4:], data[0:8, 4:14, 2:14])


def test_integer_images_become_floats_where_values_are_new(grid, save, tmp_path):
    data = np.zeros(grid.shape, np.uint8)
    data[6:, :, :] = 1
    image, output = save("image.nii.gz", data, grid), tmp_path / "out.nii"
    half = write_affine(tmp_path / "half.mat", translation((-1.0, 0, 0)))
    arguments = ["--input", image, "--reference", image, "--transform", half, "--output", output]
    run(*arguments, "--default-value", "-5")
    warped = nib.load(output)
    assert warped.get_data_dtype() == np.float32
    np.testing.assert_allclose(warped.get_fdata()[:, 7, 8][[4, 5, 6, -1]], [0, 0.5, 1, -5])


def test_series_keep_their_volumes_and_time_step(dot, grid, save, shift_file, tmp_path):
    image, _ = dot
    volume = nib.load(image).get_fdata(dtype=np.float32)
    data = np.stack([volume, 2 * volume, 3 * volume], axis=-1)
    series = save("series.nii.gz", data, grid, zooms=(2, 1.5, 1, 0.72))
    common = ["--reference", image, "--transform", shift_file, "--output"]
    run("--input", series, *common, tmp_path / "series_out.nii.gz")
    run("--input", image, *common, tmp_path / "volume_out.nii.gz")
    warped = nib.load(tmp_path / "series_out.nii.gz")
    single = nib.load(tmp_path / "volume_out.nii.gz").get_fdata()
    assert warped.shape == (*grid.shape, 3)
    assert warped.header.get_zooms()[3] == pytest.approx(0.72)
    assert warped.header.get_xyzt_units() == ("mm", "sec")
    for index in range(3):
        np.testing.assert_allclose(warped.get_fdata()[..., index], (index + 1) * single)


def test_points_in_lps_and_other_columns(shift_file, tmp_path):
    points = tmp_path / "in.csv"
    points.write_text('name,x,y,z,t,comment\n"a, b",1,2,3,0,first\n007,-1.5,0,1e1,1,\n\n')
    output = tmp_path / "out.csv"
    run("--input", points, "--transform", shift_file, "--output", output, "--points-frame", "lps")
    assert output.read_text() == (
        "name,x,y,z,t,comment\n"
        '"a, b",-3.000000,-1.000000,1.000000,0,first\n'
        "007,-5.500000,-3.000000,8.000000,1,\n"
    )
    # What ITK itself makes of these numbers, which are in its own frame.
    assert read_transform(shift_file).TransformPoint((1.0, 2.0, 3.0)) == (-3.0, -1.0, 1.0)


def test_electrodes_of_bids_are_points(shift_file, tmp_path, refused):
    points = tmp_path / "sub-01_electrodes.tsv"
    points.write_text("name\tx\ty\tz\nA1\t1\t2\t3\nREF\tn/a\tn/a\tn/a\n")
    output = tmp_path / "mapped_electrodes.tsv"
    run("--input", points, "--transform", shift_file, "--output", output)
    shifted = map_points(read_transform(shift_file), [[1, 2, 3]])[0]
    row = "\t".join(f"{value:.6f}" for value in shifted)
    assert output.read_text() == f"name\tx\ty\tz\nA1\t{row}\nREF\tn/a\tn/a\tn/a\n"
    start = ("apply", "--transform", shift_file, "--input")
    refused(*start, points, "--output", tmp_path / "x.csv", message="must end in .tsv")
    sheet = tmp_path / "electrodes.xlsx"
    message = "its suffix is not that of an image (.nii, .nii.gz, .mgz), points (.csv, .tsv)"
    refused(*start, sheet, "--output", tmp_path / "x.csv", message=message)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.mat", ("a.mat", False)),
        ("[a.mat]", ("a.mat", False)),
        ("[a.mat,0]", ("a.mat", False)),
        ("[a b.mat, 1]", ("a b.mat", True)),
        ("[/x/a,1.mat,1]", ("/x/a,1.mat", True)),
        ("dir[1]/a.mat", ("dir[1]/a.mat", False)),
    ],
)
def test_transform_option(text, expected):
    assert apply.transform_option(text) == (Path(expected[0]), expected[1])


@pytest.mark.parametrize("text", ["[a.mat,2]", "[a.mat", "[]", "[,1]", "[a.mat,]"])
def test_malformed_transform_options_are_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="give FILE or"):
        apply.transform_option(text)


def test_the_inverse_of_a_field_is_refused(dot, grid, tmp_path, refused):
    image, _ = dot
    field = np.zeros((*grid.shape, 3), np.float32)
    field[..., 0] = 1
    warp = write_displacement(tmp_path / "w.nii.gz", field, grid)
    composite = write_composite(tmp_path / "c.h5", displacement_transform(field, grid))
    for file in (warp, composite):
        arguments = ("apply", "--input", image, "--reference", image, "--transform", f"[{file},1]")
        refused(
            *arguments, "--output", tmp_path / "o.nii.gz", message="inverse composite transform"
        )


def test_unusable_images(dot, shift_file, grid, save, tmp_path, refused):
    image, _ = dot
    output = tmp_path / "out.nii.gz"
    text = tmp_path / "text.nii.gz"
    text.write_text("no image")
    start = ("apply", "--transform", shift_file, "--input")
    end = ("--reference", image, "--output")
    none = tmp_path / "none.nii.gz"
    refused(*start, none, *end, output, message="none.nii.gz")
    refused(*start, text, *end, output, message="text.nii.gz")
    refused(*start, image, "--reference", text, "--output", output, message="text.nii.gz")
    refused(*start, image, "--output", output, message="by --reference")
    refused(*start, image, *end, tmp_path / "out.mgz", message="must end in .nii or .nii.gz")
    refused(*start, image, *end, tmp_path / "no" / "out.nii", message="create it first")
    refused(*start, image, *end, output, "--interpolation", "Cubic", message="Cubic")
    refused(*start, image, *end, output, "--default-value", "nan", message="not a finite number")
    refused(*start, image, *end, output, "--points-frame", "ras", message="--points-frame")
    refused("apply", "--transform", text, "--input", image, *end, output, message="text.nii.gz")
    refused("apply", "--transform", none, "--input", image, *end, output, message="none.nii.gz")
    halves = save("halves.nii.gz", np.full(grid.shape, 0.5, np.float32), grid)
    labels = ("--interpolation", "GenericLabel")
    refused(*start, halves, *end, output, *labels, message="some values of the input are not")
    bytes_ = save("bytes.nii.gz", np.ones(grid.shape, np.uint8), grid)
    for value in ("-1", "256", "0.5"):
        default = ("--default-value", value)
        refused(*start, bytes_, *end, output, *labels, *default, message="from 0 to 255")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "must name the columns x, y and z"),
        ("1,2,3\n4,5,6\n", "it reads '1,2,3'"),
        ("x,y\n1,2\n", "must name the columns"),
        ("x,y,z,x\n1,2,3,4\n", "each once"),
        ("x,y,z\n", "contains no points"),
        ("x,y,z\n1,2,3\n1,2\n", "line 3 has 2 cells"),
        ("x,y,z\n1,two,3\n", "line 2: y is 'two'"),
        ("x,y,z\n1,2,nan\n", "line 2: z is 'nan'"),
        ("x,y,z\n1,2,-inf\n", "not a finite number"),
        ('x,y,z\n1,2,"3\n', "is not a CSV file"),
    ],
)
def test_unusable_points(content, message, shift_file, tmp_path, refused):
    points = tmp_path / "points.csv"
    points.write_text(content)
    arguments = ("apply", "--input", points, "--transform", shift_file)
    refused(*arguments, "--output", tmp_path / "out.csv", message=message)


def test_points_take_no_options_of_images(shift_file, tmp_path, refused):
    points = write_csv(tmp_path / "points.csv", [(1, 2, 3)])
    arguments = ("apply", "--input", points, "--transform", shift_file, "--output")
    refused(*arguments, tmp_path / "o.nii.gz", message="must end in .csv")
    for option in ("--reference", "--default-value", "--interpolation"):
        value = {"--default-value": "1", "--interpolation": "Linear"}.get(option, "r.nii.gz")
        refused(*arguments, tmp_path / "o.csv", option, value, message=f"leave out {option}")
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00")
    arguments = ("apply", "--transform", shift_file, "--output", tmp_path / "o.csv", "--input")
    refused(*arguments, binary, message="binary.csv: is not a CSV file")
    refused(*arguments, tmp_path / "none.csv", message="none.csv: no such file")
