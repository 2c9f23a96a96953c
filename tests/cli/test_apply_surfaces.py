"""`quicksilver apply` on surfaces and on label maps with tables."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from nipype_quicksilver.cli.main import main
from nipype_quicksilver.spatial.transforms import write_affine

MATRIX = np.array([[1.1, 0.1, 0, 5], [0, 0.9, 0.2, -7], [0.1, 0, 1, 3], [0, 0, 0, 1.0]])
POINTS = np.array([[0, 0, 0], [10, 0, 0], [0, 20, 0], [0, 0, -30]], np.float32)
FACES = np.array([[0, 1, 2], [0, 2, 3]], np.int32)


@pytest.fixture
def surface(tmp_path):
    arrays = [
        nib.gifti.GiftiDataArray(POINTS, intent="NIFTI_INTENT_POINTSET"),
        nib.gifti.GiftiDataArray(FACES, intent="NIFTI_INTENT_TRIANGLE"),
    ]
    path = tmp_path / "lh.surf.gii"
    nib.save(nib.gifti.GiftiImage(darrays=arrays), path)
    return path


def test_vertices_are_mapped_by_the_transform(surface, tmp_path):
    transform = write_affine(tmp_path / "a.mat", MATRIX)
    output = tmp_path / "mapped.surf.gii"
    options = ["--input", surface, "--transform", transform, "--output", output]
    assert main(["apply", *map(str, options)]) == 0
    mapped = nib.load(output)
    points = mapped.agg_data("pointset")
    np.testing.assert_allclose(points, POINTS @ MATRIX[:3, :3].T + MATRIX[:3, 3], atol=1e-4)
    np.testing.assert_array_equal(mapped.agg_data("triangle"), FACES)
    # As antsApplyTransformsToPoints: ITK's own map, in its frame.
    itk = sitk.ReadTransform(str(transform))
    flip = np.array([-1, -1, 1])
    expected = [itk.TransformPoint((p * flip).tolist()) for p in POINTS.astype(float)]
    np.testing.assert_allclose(points * flip, expected, atol=1e-4)


def test_surfaces_of_freesurfer_are_mapped_from_where_they_lie(tmp_path, capsys):
    center = np.array([3, -17.5, 12], np.float32)
    geometry = dict(zip(("VolGeomC_R", "VolGeomC_A", "VolGeomC_S"), map(str, center), strict=True))
    array = nib.gifti.GiftiDataArray(
        POINTS - center, intent="NIFTI_INTENT_POINTSET", meta=nib.gifti.GiftiMetaData(geometry)
    )
    nib.save(nib.gifti.GiftiImage(darrays=[array]), tmp_path / "lh.surf.gii")
    transform = write_affine(tmp_path / "a.mat", MATRIX)
    output = tmp_path / "mapped.surf.gii"
    options = ["--input", tmp_path / "lh.surf.gii", "--transform", transform, "--output", output]
    assert main(["apply", *map(str, options)]) == 0
    assert "with the origin at (3, -17.5, 12) of scanner RAS" in capsys.readouterr().err
    mapped = nib.load(output).darrays[0]
    expected = POINTS @ MATRIX[:3, :3].T + MATRIX[:3, 3]
    np.testing.assert_allclose(mapped.data, expected, atol=1e-4)
    assert not mapped.meta and mapped.coordsys.dataspace == 1


def test_other_files_are_refused(surface, tmp_path, refused):
    transform = write_affine(tmp_path / "a.mat", MATRIX)
    text, flat = tmp_path / "text.gii", tmp_path / "flat.gii"
    text.write_text("no")
    nib.save(nib.gifti.GiftiImage(), flat)
    given = ["--transform", transform, "--output", tmp_path / "out.gii"]
    refused("apply", "--input", text, *given, message=f"{text}: not a GIFTI file")
    refused("apply", "--input", flat, *given, message=f"{flat}: has no vertices")
    refused("apply", "--input", tmp_path / "x.gii", *given, message="no such file")
    lps = ["--points-frame", "lps"]
    refused("apply", "--input", surface, *given, *lps, message="vertices of a surface are RAS")
    other = ["--transform", transform, "--output", tmp_path / "out.csv"]
    refused("apply", "--input", surface, *other, message="must end in .gii")


@pytest.mark.parametrize("label", [300, 70000])
def test_label_table_is_copied(label, tmp_path, capsys):
    data = np.zeros((6, 6, 6), np.int32)
    data[2:4, 2:4, 2:4] = label
    nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / "sub-01_dseg.nii.gz")
    (tmp_path / "sub-01_dseg.tsv").write_text(f"index\tname\n{label}\tthing\n")
    transform = write_affine(tmp_path / "a.mat", np.eye(4))
    images = ["--input", tmp_path / "sub-01_dseg.nii.gz", "--transform", transform]
    images += [
        "--reference",
        tmp_path / "sub-01_dseg.nii.gz",
        "--output",
        tmp_path / "w_dseg.nii.gz",
    ]
    assert main(["apply", *map(str, images), "--interpolation", "GenericLabel"]) == 0
    warped = nib.load(tmp_path / "w_dseg.nii.gz")
    assert warped.get_data_dtype() == np.int32
    np.testing.assert_array_equal(np.asanyarray(warped.dataobj), data)
    table = tmp_path / "w_dseg.tsv"
    assert table.read_text() == f"index\tname\n{label}\tthing\n"
    # A table that is there already is not replaced.
    assert main(["apply", *map(str, images), "--interpolation", "GenericLabel"]) == 0
    assert "differs from" not in capsys.readouterr().err
    table.write_text("index\tname\n1\tother\n")
    assert main(["apply", *map(str, images), "--interpolation", "GenericLabel"]) == 0
    assert f"{table}: differs from" in capsys.readouterr().err
    assert table.read_text() == "index\tname\n1\tother\n"
