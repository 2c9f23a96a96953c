"""Vertices of surfaces are mapped like points; everything else is copied."""

import nibabel as nib
import numpy as np
import pytest

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial.surfaces import map_surface

POINTS = np.array([[0, 0, 0], [10, 0, 0], [0, 20, 0], [0, 0, -30]], np.float32)
FACES = np.array([[0, 1, 2], [0, 2, 3]], np.int32)


def shifted(points):
    return points + np.array([1, -2, 3])


def save(path, *arrays):
    data = [nib.gifti.GiftiDataArray(array, intent=intent) for array, intent in arrays]
    nib.save(nib.gifti.GiftiImage(darrays=data), path)
    return path


def test_vertices_are_mapped_and_triangles_copied(tmp_path):
    arrays = [(POINTS, "NIFTI_INTENT_POINTSET"), (FACES, "NIFTI_INTENT_TRIANGLE")]
    source = save(tmp_path / "lh.surf.gii", *arrays)
    output = tmp_path / "mapped.surf.gii"
    assert map_surface(source, output, shifted) == len(POINTS)
    mapped = nib.load(output)
    np.testing.assert_allclose(mapped.agg_data("pointset"), shifted(POINTS))
    assert mapped.agg_data("pointset").dtype == np.float32
    np.testing.assert_array_equal(mapped.agg_data("triangle"), FACES)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'Dimensionality="2"', b'Dimensionality="' + b"9" * 400 + b'"', "not a GIFTI file that"),
        (b'Dimensionality="2"', b'Dimensionality="-1"', "not a GIFTI file that"),
        (b'Encoding="GZipBase64Binary"', b'Encoding="ExternalFileBinary"', "in another file; save"),
        (b'DataType="NIFTI_TYPE_FLOAT32"', b'DataType="NIFTI_TYPE_RGB24"', "not a GIFTI file that"),
        (b'Dim0="4"', b'Dim0="4000000000"', "not a GIFTI file that can be read"),
        (b"</GIFTI>", b"", "not a GIFTI file that can be read"),
    ],
)
def test_damaged_files_are_refused(old, new, message, tmp_path):
    source = save(tmp_path / "a [1].gii", (POINTS, "NIFTI_INTENT_POINTSET"))
    content = source.read_bytes()
    assert old in content
    source.write_bytes(content.replace(old, new))
    with pytest.raises(InputError, match=message) as error:
        map_surface(source, tmp_path / "out.gii", shifted)
    assert str(error.value).startswith(f"{source}: ")


@pytest.mark.parametrize("far", [1e30, -2e5])
def test_vertices_beyond_reason_are_refused(far, tmp_path):
    source = save(tmp_path / "x.gii", (POINTS * np.float32(far), "NIFTI_INTENT_POINTSET"))
    with pytest.raises(InputError, match=r"x\.gii: vertices at .* mm, further than 100000 mm"):
        map_surface(source, tmp_path / "out.gii", shifted)


@pytest.mark.parametrize("points", [np.full((4, 3), np.nan, np.float32), POINTS[:, :2]])
def test_vertices_that_are_not_points_are_refused(points, tmp_path):
    source = save(tmp_path / "x.surf.gii", (points, "NIFTI_INTENT_POINTSET"))
    with pytest.raises(InputError, match="its vertices are not finite points; repair"):
        map_surface(source, tmp_path / "out.gii", shifted)
    assert not (tmp_path / "out.gii").exists()


def test_other_files_are_refused(tmp_path):
    def refused(path, message):
        with pytest.raises(InputError, match=message):
            map_surface(path, tmp_path / "out.gii", shifted)

    (tmp_path / "text.gii").write_text("no")
    refused(tmp_path / "text.gii", "text.gii: not a GIFTI file")
    nib.save(nib.Nifti1Image(np.ones((3, 3, 3), np.uint8), np.eye(4)), tmp_path / "image.nii")
    refused(tmp_path / "image.nii", "is not a GIFTI surface; convert it first")
    refused(save(tmp_path / "flat.gii"), "flat.gii: has no vertices")
    refused(tmp_path / "none.gii", "no such file")
