"""Vertices of surfaces are mapped like points; everything else is copied."""

import warnings

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine, from_matvec
from scipy.spatial.transform import Rotation

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial.surfaces import map_surface

POINTS = np.array([[0, 0, 0], [10, 0, 0], [0, 20, 0], [0, 0, -30]], np.float32)
SCANNER = np.random.default_rng(0).uniform(-80, 80, (50, 3))
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


# The origin of surface RAS, in scanner RAS, and a volume whose axes are not those of scanner RAS.
CENTER = np.array([3, -17.5, 12])
TURN = Rotation.from_euler("xyz", [20, -10, 35], degrees=True).as_matrix()
# Directions of the columns, rows and slices of a conformed volume.
CONFORMED = np.array([[-1, 0, 0], [0, 0, -1], [0, 1, 0.0]])


def freesurfer(center=CENTER, axes=CONFORMED):
    """Return the metadata that FreeSurfer writes with a surface."""
    vectors = {"C": center, **({} if axes is None else dict(zip("XYZ", axes, strict=True)))}
    volume = {f"VolGeom{name}": "256" for name in ("Width", "Height", "Depth")}
    return volume | {
        f"VolGeom{name}_{axis}": f"{value:f}"
        for name, vector in vectors.items()
        for axis, value in zip("RAS", vector, strict=True)
    }


def without(*names):
    return {name: text for name, text in freesurfer().items() if name not in names}


def with_metadata(path, points, meta=None, system=None, of_file=False):
    array = nib.gifti.GiftiDataArray(
        np.asarray(points, np.float32),
        intent="NIFTI_INTENT_POINTSET",
        meta={} if of_file else meta or {},
        coordsys=None if system is None else nib.gifti.GiftiCoordSystem(*system),
    )
    whole = nib.gifti.GiftiMetaData((meta or {}) if of_file else {})
    nib.save(nib.gifti.GiftiImage(darrays=[array], meta=whole), path)
    return path


AFFINE = from_matvec(TURN, [5, 6, -7])
TO_SURFACE = np.linalg.inv(AFFINE)
CASES = {
    "scanner RAS": (SCANNER, {}, None, None),
    "the same, named": (SCANNER, {}, (1, 1, np.eye(4)), None),
    "the same, with the geometry of a volume": (SCANNER, freesurfer(), (1, 1, np.eye(4)), None),
    "workbench": (SCANNER, {}, (3, 3, np.eye(4)), r"its DataSpace (code 3) is a standard space"),
    "aligned": (SCANNER, {}, (2, 2, np.eye(4)), None),
    "FreeSurfer": (SCANNER - CENTER, freesurfer(), None, "surface RAS"),
    "without axes": (SCANNER - CENTER, freesurfer(axes=None), None, "surface RAS"),
    "with Talairach": (SCANNER - CENTER, freesurfer(), (0, 3, AFFINE), "surface RAS"),
    "turned volume": (
        (SCANNER - CENTER) @ TURN,
        freesurfer(axes=CONFORMED @ TURN.T),
        None,
        "surface RAS",
    ),
    "no offset": (SCANNER, freesurfer(np.zeros(3)), None, None),
    "matrix": (apply_affine(TO_SURFACE, SCANNER), {}, (0, 1, AFFINE), None),
    "matrix and volume": (apply_affine(TO_SURFACE, SCANNER), freesurfer(), (0, 1, AFFINE), None),
    "matrix to somewhere": (
        apply_affine(TO_SURFACE, SCANNER),
        {},
        (0, 0, AFFINE),
        "its coordinate matrix is taken to lead to scanner RAS",
    ),
}


@pytest.mark.parametrize("of_file", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_a_surface_lies_where_its_metadata_say(name, of_file, tmp_path):
    points, meta, system, warning = CASES[name]
    source = with_metadata(tmp_path / "lh.surf.gii", points, meta, system, of_file)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        map_surface(source, tmp_path / "out.gii", shifted)
    messages = [str(each.message) for each in caught if each.category is UserWarning]
    assert len(messages) == (warning is not None)
    assert all(warning in message for message in messages)
    mapped = nib.load(tmp_path / "out.gii")
    (array,) = mapped.darrays
    np.testing.assert_allclose(array.data, shifted(SCANNER), atol=1e-4)
    # Programs that follow the metadata do not move it once more.
    assert (array.coordsys.dataspace, array.coordsys.xformspace) == (1, 1)
    np.testing.assert_array_equal(array.coordsys.xform, np.eye(4))
    assert not [key for key in (*array.meta, *mapped.meta) if key.startswith("VolGeom")]
    # And it stays where it is.
    again = tmp_path / "again.gii"
    map_surface(tmp_path / "out.gii", again, lambda same: same)
    np.testing.assert_array_equal(nib.load(again).darrays[0].data, array.data)


@pytest.mark.parametrize(
    ("meta", "system", "message"),
    [
        ({}, (1, 1, AFFINE), "moves it although it is in scanner RAS already"),
        ({}, (0, 1, np.zeros((4, 4))), "its coordinate matrix is singular"),
        (freesurfer([np.nan, 0, 0]), None, "VolGeomC is not a vector"),
        (freesurfer(axes=np.ones((3, 3))), None, "not orthogonal axes"),
        ({**freesurfer(), "VolGeomC_R": "far"}, None, "VolGeomC is not a vector"),
        (without("VolGeomC_A"), None, "VolGeomC is not a vector"),
        (without("VolGeomC_R", "VolGeomC_A", "VolGeomC_S"), None, "parts of its VolGeom"),
        (without("VolGeomX_R", "VolGeomX_A", "VolGeomX_S"), None, "parts of its VolGeom"),
    ],
)
def test_metadata_that_do_not_say_where_it_lies(meta, system, message, tmp_path):
    source = with_metadata(tmp_path / "lh.surf.gii", SCANNER, meta, system)
    with pytest.raises(InputError, match=message):
        map_surface(source, tmp_path / "out.gii", shifted)
    assert not (tmp_path / "out.gii").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'Dimensionality="2"', b'Dimensionality="7"', "not a GIFTI file that"),
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
