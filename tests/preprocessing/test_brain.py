"""Brain extraction: stripped images, extracted masks, warnings and errors."""

import warnings

import nibabel as nib
import numpy as np
import pytest
from nibabel.freesurfer.mghformat import MGHImage
from scipy import ndimage

from nipype_quicksilver.cli.main import main
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.preprocessing import brain
from nipype_quicksilver.preprocessing.brain import extract, masked
from nipype_quicksilver.spatial.grids import Grid
from nipype_quicksilver.spatial.images import nifti, read_image, write_image
from nipype_quicksilver.spatial.resampling import conform


def shell(inside, millimeters, spacing):
    """Return a mask grown by a width."""
    return ndimage.distance_transform_edt(~inside, sampling=spacing) <= millimeters


@pytest.fixture(scope="module")
def head():
    """A template's brain at 2 mm in a skull and a scalp of constant width, with noise."""
    from nilearn.datasets import load_mni152_template

    template = load_mni152_template(resolution=2)
    affine = np.diag([2.0, 2, 2, 1])
    affine[:3, 3] = -111, -145, -95
    grid = Grid((112, 128, 112), affine)
    source = nifti(np.asarray(template.dataobj, np.float32), template.affine)
    tissue = conform(source, grid) * 600
    inside = ndimage.binary_fill_holes(tissue > 60)
    fluid, bone, skin = (shell(inside, width, 2.0) for width in (3, 9, 15))
    data = np.where(inside, tissue, 100.0)
    data[bone & ~fluid], data[skin & ~bone], data[~skin] = 30, 700, 0
    data += np.random.default_rng(1).normal(0, 10, data.shape)
    return nifti(np.clip(data, 0, None).astype(np.float32), affine), inside


def dice(first, second):
    return 2 * np.sum(first & second) / (np.sum(first) + np.sum(second))


def test_brain_is_extracted_from_any_file(head, tmp_path):
    image, inside = head
    # A small file with a suffix and an orientation of its own, and some values missing.
    turned = image.as_reoriented(
        nib.orientations.ornt_transform(
            nib.io_orientation(image.affine), nib.orientations.axcodes2ornt("LIA")
        )
    )
    data = np.asanyarray(turned.dataobj).astype(np.float32)
    path = tmp_path / "head.mgz"
    nib.save(MGHImage((data / 4).astype(np.uint8), turned.affine), path)
    outputs = tmp_path / "mask.nii.gz", tmp_path / "brain.nii.gz"
    options = ["--output-mask", str(outputs[0]), "--output", str(outputs[1]), "--num-threads", "2"]
    assert main(["extract-brain", "--input", str(path), *options]) == 0
    mask, image = (nib.load(output) for output in outputs)
    np.testing.assert_allclose(mask.affine, turned.affine)
    assert mask.get_data_dtype() == np.uint8
    extracted = np.asanyarray(nib.as_closest_canonical(mask).dataobj) > 0
    assert dice(extracted, inside) > 0.9
    assert not np.any(image.get_fdata()[np.asanyarray(mask.dataobj) == 0])


@pytest.fixture
def network(monkeypatch):
    """A function that sets the mask of the network, which itself is not run."""

    def network(mask):
        monkeypatch.setattr(brain, "_by_deepbet", lambda *_: mask)

    return network


def test_brain_without_skull_is_not_changed(fixed, network):
    network(None)
    extraction = extract(fixed)
    assert extraction.summary.how == "stripped"
    assert extraction.summary.volume_ml == pytest.approx(1198, rel=0.03)
    np.testing.assert_array_equal(extraction.mask.dataobj, np.asanyarray(fixed.dataobj) > 0)


def test_traces_of_interpolation_around_a_brain_are_removed(fixed, network):
    rng, data = np.random.default_rng(0), np.asanyarray(fixed.dataobj)
    ringing = np.where(rng.random(data.shape) < 0.6, rng.normal(0, 1e-3, data.shape), 0)
    image = nifti((data + ringing * data.max()).astype(np.float32), fixed.affine)
    inside = brain._largest_component(data > 0.01 * data.max())
    network(ndimage.binary_erosion(inside))
    extraction = extract(image)
    assert extraction.summary.how == "resampled"
    assert dice(np.asanyarray(extraction.mask.dataobj) > 0, inside) > 0.999


def test_images_too_small_for_a_head_are_not_changed(fixed, network):
    network(None)
    mouse = nifti(np.asanyarray(fixed.dataobj), fixed.affine @ np.diag([0.1, 0.1, 0.1, 1]))
    assert extract(mouse).summary.how == "stripped"


def test_head_with_a_black_background_is_not_a_stripped_brain(head, network):
    image, inside = head
    data = np.asanyarray(image.dataobj)
    small = nifti(np.where(data > 25, data, 0), image.affine @ np.diag([0.8, 0.8, 0.8, 1]))
    network(inside)
    assert extract(small).summary.how == "deepbet"


def test_brain_of_another_contrast_without_skull(fixed, network):
    # Bright fluid around a darker brain is similar to a scalp; the image is recognised as stripped
    # because the network removes nothing.
    data = np.asanyarray(fixed.dataobj)
    inside = data > 0
    bright = inside & ~ndimage.binary_erosion(inside, iterations=2)
    network(ndimage.binary_erosion(inside))
    extraction = extract(nifti(np.where(bright, 900, data).astype(np.float32), fixed.affine))
    assert extraction.summary.how in ("deepbet", "stripped")
    network(ndimage.binary_dilation(inside) & inside)
    extraction = extract(nifti(np.where(bright, 900, data).astype(np.float32), fixed.affine))
    assert extraction.summary.how == "stripped"


def test_given_mask_is_used(head, network):
    image, _ = head
    network(None)
    odd = np.zeros(image.shape, np.uint8)
    odd[10:20, 10:20, 10:20] = odd[50:55, 50:55, 50:55] = 1
    extraction = extract(image, mask=nifti(odd, image.affine))
    assert extraction.summary.how == "given"
    np.testing.assert_array_equal(extraction.mask.dataobj, odd)
    far = image.affine.copy()
    far[0, 3] = 900
    with pytest.raises(InputError, match="does not overlap"):
        extract(image, mask=nifti(odd, far))


@pytest.mark.parametrize("milliliters", [150, 2500])
def test_implausible_volumes_are_reported(milliliters, head, network):
    image, inside = head
    network(inside)
    size = np.cbrt(milliliters / (8 * inside.sum() / 1000))
    with pytest.warns(
        UserWarning, match=rf"mask has {milliliters} ml, implausible for a human brain"
    ):
        extract(nifti(np.asanyarray(image.dataobj), image.affine @ np.diag([size] * 3 + [1])))


def test_impossible_volumes_are_refused(head, network):
    image, inside = head
    network(~inside)
    with pytest.raises(InputError, match=r"the extracted brain has \d+ ml; give a T1"):
        extract(image)


def test_cut_off_heads_and_noise_are_reported(head, network):
    image, inside = head
    cut = image.slicer[:, :, :60]
    network(inside[:, :, :60])
    at_the_border = pytest.warns(UserWarning, match="on the border of the image; the head may be")
    with at_the_border, pytest.warns(UserWarning, match="ends abruptly at the top"):
        extract(cut)
    noise = np.random.default_rng(1).uniform(1, 2, image.shape).astype(np.float32)
    network(inside)
    with pytest.warns(UserWarning, match="no more contrast than noise"):
        extract(nifti(noise, image.affine))


@pytest.mark.parametrize("mask_was_given", [False, True])
def test_phantoms_are_reported(mask_was_given, head, network):
    """A ball with noise and a shading, which alone is no contrast of tissues."""
    image, _ = head
    x, y, z = np.moveaxis(Grid.from_image(image).coordinates() - [0, -20, 15], -1, 0)
    radius = np.sqrt(x**2 + y**2 + z**2)
    noise = np.abs(np.random.default_rng(1).normal(0, 10, image.shape))
    ball = nifti((np.where(radius < 70, 500 + x, 0) + noise).astype(np.float32), image.affine)
    network(radius < 66)
    mask = nifti((radius < 66).astype(np.uint8), image.affine) if mask_was_given else None
    with pytest.warns(UserWarning, match="no more contrast than noise or a phantom"):
        extract(ball, mask=mask)


def test_tissues_that_differ_little_are_not_a_phantom(head, network):
    """As gray and white matter in proton density, or in an infant."""
    image, inside = head
    flat = np.where(inside, 300 + 0.3 * np.asanyarray(image.dataobj), image.dataobj)
    network(inside)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        extract(nifti(flat.astype(np.float32), image.affine))


def test_a_background_that_is_not_zero_is_background(fixed, network):
    network(None)
    data = np.asanyarray(fixed.dataobj)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        extraction = extract(nifti(data + 16, fixed.affine))
    assert extraction.summary.how == "stripped"
    np.testing.assert_array_equal(extraction.mask.dataobj, data > 0)


def test_a_faint_rim_around_a_brain_is_removed(fixed, network):
    network(None)
    data = np.asanyarray(fixed.dataobj)
    inside = data > 0
    rim = shell(inside, 9, 4.0) & ~inside
    extraction = extract(nifti(np.where(rim, 0.03 * data.max(), data), fixed.affine))
    assert extraction.summary.how == "resampled"
    assert dice(np.asanyarray(extraction.mask.dataobj) > 0, inside) > 0.99


def test_vessels_are_no_brain(fixed, network):
    network(None)
    x, y, z = np.moveaxis(Grid.from_image(fixed).coordinates(), -1, 0)
    tubes = (np.sin(x / 7) * np.sin(y / 7) > 0.93) | (np.sin(y / 7) * np.sin(z / 7) > 0.93)
    tubes &= np.asanyarray(fixed.dataobj) > 0
    noise = np.random.default_rng(0).uniform(200, 400, tubes.shape)
    vessels = nifti(np.where(tubes, noise, 0).astype(np.float32), fixed.affine)
    with pytest.warns(UserWarning, match="too thin everywhere for a brain, as vessels"):
        extract(vessels, mask=nifti(tubes.astype(np.uint8), fixed.affine))


def test_void_in_a_mask_is_reported(fixed):
    """The mask of an image with the other hemisphere."""
    data = np.asanyarray(fixed.dataobj)
    half = data.copy()
    half[: data.shape[0] // 2] = 0
    mask = nifti((data > 0).astype(np.uint8), fixed.affine)
    with pytest.warns(UserWarning, match=r"[45]\d% of the brain mask is background in the image"):
        extract(nifti(half, fixed.affine), mask=mask)


def test_a_brain_outside_of_its_mask_is_reported(fixed):
    data = np.asanyarray(fixed.dataobj)
    small = ndimage.binary_erosion(data > 0, iterations=2).astype(np.uint8)
    with pytest.warns(UserWarning, match=r"\d\d% of the brain, which has no skull, is outside of"):
        extract(fixed, mask=nifti(small, fixed.affine))


@pytest.mark.parametrize("size", [0.1, 0.45, 0.7])
def test_small_brains_are_taken_as_they_are(size, fixed, network):
    """Of a mouse, a macaque and an infant: with a mask, nothing is said of their size."""
    image = nifti(np.asanyarray(fixed.dataobj), fixed.affine @ np.diag([size, size, size, 1]))
    mask = nifti((np.asanyarray(image.dataobj) > 0).astype(np.uint8), image.affine)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert extract(image, mask=mask).summary.how == "given"


def test_heads_of_animals_are_not_taken_for_brains(fixed):
    """Of a mouse, with a skull around a brain that has a mask."""
    data = np.asanyarray(fixed.dataobj)
    head = np.where(shell(data > 0, 12, 4.0) & (data == 0), 200, data)
    small = fixed.affine @ np.diag([0.1, 0.1, 0.1, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        extract(nifti(head, small), mask=nifti((data > 0).astype(np.uint8), small))


def test_brains_larger_than_any_are_reported(fixed):
    image = nifti(np.asanyarray(fixed.dataobj), fixed.affine @ np.diag([1.3, 1.3, 1.3, 1]))
    mask = nifti((np.asanyarray(image.dataobj) > 0).astype(np.uint8), image.affine)
    with pytest.warns(UserWarning, match=r"the brain has 26\d\d ml, more than any human brain"):
        extract(image, mask=mask)


def test_heads_upside_down_are_reported(head, network):
    image, inside = head
    crown = np.flatnonzero(np.asanyarray(image.dataobj)[..., :].max(axis=(0, 1)) > 300).max()
    # It ends at the level of the ears, as at a neck.
    cut = slice(crown - 40, crown + 8)
    network(inside[:, :, cut])
    turned = image.slicer[:, :, cut]
    turned = nifti(np.asanyarray(turned.dataobj), np.diag([1, -1, -1, 1]) @ turned.affine)
    at_the_border = pytest.warns(UserWarning, match="on the border of the image")
    with at_the_border, pytest.warns(UserWarning, match="it may be upside down in the header"):
        extract(turned)


def test_brain_by_an_external_tool(head, network, monkeypatch):
    image, inside = head
    network(None)
    calls = []

    def tool(name, given, *, num_threads, log_dir):
        calls.append((name, given, num_threads, log_dir))
        return inside.astype(np.uint8)

    monkeypatch.setattr(brain, "extract_mask", tool)
    extraction = extract(image, by="bet", num_threads=2, log_dir="logs")
    assert calls == [("bet", image, 2, "logs")]
    assert extraction.summary.how == "bet"
    assert dice(np.asanyarray(extraction.mask.dataobj) > 0, inside) > 0.99


def test_ordinary_heads_do_not_warn(head, network):
    image, inside = head
    network(inside)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert extract(image).summary.how == "deepbet"


def test_thin_slabs_are_refused(head, network):
    image, _ = head
    network(None)
    with pytest.raises(InputError, match="too few to extract a brain; give a brain mask"):
        extract(image.slicer[:, :, 50:55])


def test_largest_component():
    inside = np.zeros((12, 12, 12), bool)
    inside[2:8, 2:8, 2:8], inside[4, 4, 4], inside[10, 10, 10] = True, False, True
    whole = brain._largest_component(inside)
    assert whole[4, 4, 4] and not whole[10, 10, 10] and whole.sum() == 216
    assert not brain._largest_component(np.zeros((3, 3, 3), bool)).any()


def test_negative_values_count_as_air():
    data = np.full((10, 10, 10), -1000, np.float32)
    data[3:7, 3:7, 3:7] = 40
    shown = np.asanyarray(brain._in_scan_range(nifti(data, np.eye(4))).dataobj)
    assert shown.min() == 0 and shown.max() == 1040


def test_masked(fixed):
    mask = nifti((np.asanyarray(fixed.dataobj) > 300).astype(np.uint8), fixed.affine)
    data = np.asanyarray(masked(fixed, mask).dataobj)
    assert data[data > 0].min() > 300


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "nothing to write"),
        (["--output", "brain.mgz"], "must end in .nii"),
        (["--output-mask", "m.nii.gz", "--threshold", "2"], "'2' is not between 0 and 1"),
        (["--output-mask", "m.nii.gz"], "no such file"),
    ],
)
def test_the_command_refuses_wrong_usage(options, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["extract-brain", "--input", "missing.nii.gz", *options]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_command_reports_a_stripped_brain(fixed, tmp_path, capsys):
    path = write_image(tmp_path / "b.nii.gz", np.asanyarray(fixed.dataobj), fixed.affine)
    json, output = tmp_path / "b.json", tmp_path / "out.nii.gz"
    options = ["--output", str(output), "--output-json", str(json)]
    assert main(["extract-brain", "--input", str(path), *options]) == 0
    assert "has no skull, and is not changed" in capsys.readouterr().err
    np.testing.assert_allclose(read_image(output).dataobj, fixed.dataobj)
    assert '"how": "stripped"' in json.read_text()
