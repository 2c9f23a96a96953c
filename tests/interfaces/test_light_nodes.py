"""The nodes that run in the worker's process write what the functions for files write."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nipype import Node
from nipype.pipeline.engine.nodes import NodeExecutionError

from nipype_quicksilver import InputError, interfaces
from nipype_quicksilver.spatial import images, intensity, jacobians, resampling, transforms
from nipype_quicksilver.spatial.grids import Grid
from nipype_quicksilver.spatial.measures import transform_distance
from nipype_quicksilver.spatial.records import as_json


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def load(path):
    return np.asanyarray(nib.load(path).dataobj)


def test_conform_makes_the_grid_of_both_brains(pair):
    alone = interfaces.ConformToGrid(in_file=pair.fixed).run().outputs
    grid = Grid.from_file(alone.out_file)
    assert grid.spacing == (1, 1, 1) and all(n % 8 == 0 for n in grid.shape)
    np.testing.assert_array_equal(
        load(alone.out_file), resampling.conform(images.read_image(pair.fixed), grid)
    )
    far = np.eye(4)
    far[1, 3] = -20  # fixed points to moving points: the moving brain comes 20 mm further
    node = interfaces.ConformToGrid(in_file=pair.fixed, include_image=pair.moving)
    node.inputs.include_affine = transforms.write_affine("far.mat", far)
    both = Grid.from_file(node.run().outputs.out_file)
    assert both.shape[1] >= grid.shape[1] + 16


def test_conform_refuses_a_grid_that_the_brain_is_not_on(pair, tmp_path):
    affine = nib.load(pair.fixed).affine.copy()
    affine[0, 3] += 1000
    nib.save(nib.Nifti1Image(load(pair.fixed), affine), tmp_path / "far.nii.gz")
    node = interfaces.ConformToGrid(in_file=pair.moving, reference_image=tmp_path / "far.nii.gz")
    with pytest.raises(InputError, match=r"moving.*lies outside the working grid"):
        node.run()


def test_conform_to_a_grid_through_an_affine(pair):
    reference = interfaces.ConformToGrid(in_file=pair.fixed).run().outputs.out_file
    node = interfaces.ConformToGrid(in_file=pair.moving, mask=pair.moving_mask)
    node.inputs.reference_image = reference
    node.inputs.affine = pair.affine
    outputs = node.run().outputs
    grid, matrix = Grid.from_file(reference), transforms.read_affine(pair.affine)
    expected = resampling.conform(images.read_image(pair.moving), grid, matrix)
    np.testing.assert_array_equal(load(outputs.out_file), expected)
    assert set(np.unique(load(outputs.out_mask))) == {0, 1}
    np.testing.assert_array_equal(load(outputs.native_mask), load(pair.moving_mask))
    np.testing.assert_allclose(transforms.read_affine(outputs.out_affine), matrix)


def test_conform_fills_a_lesion(pair):
    half = nib.load(pair.moving_mask)
    data = np.asanyarray(half.dataobj).copy()
    data[:, 10:] = 0
    nib.save(nib.Nifti1Image(data, half.affine), "lesion.nii.gz")
    node = interfaces.ConformToGrid(in_file=pair.moving, lesion_mask="lesion.nii.gz")
    outputs = node.run().outputs
    image, inside, lesion = (
        load(outputs.out_file),
        load(outputs.out_mask) > 0,
        load(outputs.out_lesion_mask) > 0,
    )
    assert lesion.any() and (inside & ~lesion).any()
    assert np.unique(image[inside & lesion]).tolist() == [np.median(image[inside & ~lesion])]


def test_conform_needs_a_reference_for_an_affine(pair):
    with pytest.raises(ValueError, match="reference_image"):
        interfaces.ConformToGrid(in_file=pair.moving, affine=pair.affine).run()


def test_conform_without_affine_and_lesion(pair):
    outputs = interfaces.ConformToGrid(in_file=pair.fixed).run().outputs
    np.testing.assert_array_equal(transforms.read_affine(outputs.out_affine), np.eye(4))
    assert not Path("fixed_conformed_lesion.nii.gz").exists()


def test_conform_refuses_images_that_do_not_meet(pair):
    far = np.eye(4)
    far[0, 3] = 500
    node = interfaces.ConformToGrid(in_file=pair.fixed, include_image=pair.moving)
    node.inputs.include_affine = transforms.write_affine("far.mat", far)
    with pytest.raises(InputError, match="does not overlap"):
        node.run()


def test_normalize(pair):
    node = interfaces.NormalizeIntensity(in_file=pair.fixed, mask=pair.fixed_mask, equalize=True)
    expected = intensity.normalize(load(pair.fixed), load(pair.fixed_mask), equalize=True)
    np.testing.assert_array_equal(load(node.run().outputs.out_file), expected)


def test_normalize_names_the_image_without_contrast(pair, tmp_path):
    flat = np.zeros_like(load(pair.fixed))
    flat[1:5, 1:5, 1:5] = 100
    affine = nib.load(pair.fixed).affine
    nib.save(nib.Nifti1Image(flat, affine), tmp_path / "flat.nii.gz")
    nib.save(nib.Nifti1Image((flat == 0).astype(np.uint8), affine), tmp_path / "around.nii.gz")
    node = interfaces.NormalizeIntensity(in_file=tmp_path / "flat.nii.gz")
    node.inputs.mask = tmp_path / "around.nii.gz"
    with pytest.raises(InputError, match=r"flat.nii.gz: the image has no contrast inside its mask"):
        node.run()


def test_normalize_refuses_a_mask_on_another_grid(pair):
    node = interfaces.NormalizeIntensity(in_file=pair.fixed, mask=pair.moving_mask)
    with pytest.raises(InputError, match=r"moving_mask.nii.gz: not on the grid"):
        node.run()


@pytest.fixture
def field(pair):
    """A displacement field on the fixed grid."""
    grid = Grid.from_file(pair.fixed)
    values = np.sin(grid.coordinates() / 8).astype(np.float32)
    return transforms.write_displacement("field.nii.gz", values, grid)


def test_compose(pair, field):
    node = interfaces.ComposeTransforms(transforms=[field, pair.affine])
    node.inputs.reference_image = pair.fixed
    node.inputs.invert_transform_flags = [False, True]
    outputs = node.run().outputs
    written = transforms.read_transform(outputs.composite_transform)
    points = np.array([[1.0, 2.0, 3.0], [-4.0, 0.0, 5.0]])
    # First the field, then the inverse of the shift of 3 mm.
    expected = transforms.map_points(transforms.read_transform(field), points) - [3, 0, 0]
    np.testing.assert_allclose(transforms.map_points(written, points), expected, atol=1e-5)
    sampled = transforms.displacement_on_grid(written, Grid.from_file(pair.fixed))
    np.testing.assert_array_equal(transforms.read_displacement(outputs.displacement)[0], sampled)


def test_compose_refuses_the_inverse_of_a_field(field):
    node = interfaces.ComposeTransforms(transforms=[field], invert_transform_flags=[True])
    with pytest.raises(
        InputError, match=r"field.nii.gz: not affine, so it cannot be inverted here"
    ):
        node.run()
    assert not Path("composite.h5").exists()


def test_as_many_flags_as_transforms(pair):
    node = interfaces.ComposeTransforms(transforms=[pair.affine])
    node.inputs.invert_transform_flags = [True, False]
    with pytest.raises(InputError, match="1 transforms but 2 flags"):
        node.run()


@pytest.mark.parametrize("name", ["input_image", "reference_image", "transforms"])
def test_a_node_does_not_overwrite_its_input(name, pair, field):
    node = interfaces.ApplyTransforms(input_image=pair.moving, reference_image=pair.fixed)
    node.inputs.transforms = [field]
    given = getattr(node.inputs, name)
    file = given[0] if isinstance(given, list) else given
    Path("link").symlink_to(file)
    for output in (str(file), "link"):
        node.inputs.output_image = output
        before = Path(file).read_bytes()
        with pytest.raises(InputError, match="is an input of this run"):
            node.run()
        assert Path(file).read_bytes() == before


def test_apply_as_the_command_does(pair, field):
    from nipype_quicksilver.cli.main import main

    node = interfaces.ApplyTransforms(input_image=pair.moving, reference_image=pair.fixed)
    node.inputs.transforms = [field, pair.affine]
    node.inputs.invert_transform_flags = [False, True]
    node.inputs.interpolation = "BSpline"
    node.inputs.default_value = -1
    command = f"apply --input {pair.moving} --reference {pair.fixed} --output by_command.nii.gz"
    command += f" --transform {field} --transform [{pair.affine},1] --interpolation BSpline"
    assert main([*command.split(), "--default-value", "-1", "--quiet"]) == 0
    written = node.run().outputs.output_image
    assert Path(written).name == "moving_trans.nii.gz"
    assert Path(written).read_bytes() == Path("by_command.nii.gz").read_bytes()


def test_apply_to_labels(pair):
    node = interfaces.ApplyTransforms(input_image=pair.moving_labels, reference_image=pair.fixed)
    node.inputs.transforms = pair.affine
    node.inputs.interpolation = "GenericLabel"
    warped = nib.load(node.run().outputs.output_image)
    assert warped.get_data_dtype() == np.uint8
    assert set(np.unique(warped.dataobj)) == {0, 1, 2}


def test_apply_to_a_series(pair):
    volume = load(pair.moving)
    series = nib.Nifti1Image(np.stack([volume, 2 * volume], -1), nib.load(pair.moving).affine)
    series.header.set_xyzt_units("mm", "sec")
    series.header["pixdim"][4] = 2.5
    nib.save(series, "bold.nii")
    node = interfaces.ApplyTransforms(input_image="bold.nii", reference_image=pair.fixed)
    node.inputs.transforms = [pair.affine]
    node.inputs.output_image = "out.nii.gz"
    warped = nib.load(node.run().outputs.output_image)
    assert warped.shape == (*nib.load(pair.fixed).shape, 2)
    assert warped.header.get_zooms()[3] == 2.5
    np.testing.assert_allclose(warped.dataobj[..., 1], 2 * warped.dataobj[..., 0], rtol=1e-6)


def test_overlap(pair):
    node = interfaces.LabelOverlap(fixed_labels=pair.fixed_labels, labels=[2])
    node.inputs.warped_labels = pair.fixed_labels
    outputs = node.run().outputs
    assert (outputs.dice, outputs.jaccard, outputs.target_overlap) == (1, 1, 1)
    assert set(json.loads(Path(outputs.out_file).read_text())["labels"]) == {"2"}


def test_overlap_refuses_other_grids(pair):
    node = interfaces.LabelOverlap(fixed_labels=pair.fixed_labels, warped_labels=pair.moving_labels)
    with pytest.raises(InputError, match="not on the grid"):
        node.run()


def test_jacobian(pair, field):
    outputs = interfaces.JacobianSummary(displacement=field, mask=pair.fixed_mask).run().outputs
    values, grid = transforms.read_displacement(field)
    expected = jacobians.jacobian_summary(values, grid, load(pair.fixed_mask))
    assert json.loads(Path(outputs.out_file).read_text()) == as_json(expected)
    assert outputs.folded == expected.folded == 0
    assert outputs.minimum == expected.minimum
    logs = jacobians.log_jacobian(values, grid)
    np.testing.assert_array_equal(load(outputs.log_jacobian), logs)


def test_jacobian_takes_a_mask_on_another_grid(pair, field):
    coarse = interfaces.JacobianSummary(displacement=field, mask=pair.moving_mask).run().outputs
    assert 0 < coarse.voxels < np.prod(Grid.from_file(field).shape)


def test_jacobian_names_a_mask_that_lies_elsewhere(pair, field, tmp_path):
    affine = nib.load(pair.fixed_mask).affine.copy()
    affine[0, 3] += 1000
    nib.save(nib.Nifti1Image(load(pair.fixed_mask), affine), tmp_path / "far.nii.gz")
    node = interfaces.JacobianSummary(displacement=field, mask=tmp_path / "far.nii.gz")
    with pytest.raises(InputError, match=r"far.nii.gz: the mask covers no voxel"):
        node.run()


def test_distance_of_transforms_of_different_kinds(pair, field, tmp_path):
    shift = np.eye(4)
    shift[1, 3] = 3
    node = interfaces.TransformDistance(mask=pair.fixed_mask, second_transform=field)
    node.inputs.first_transform = transforms.write_affine(tmp_path / "shift.mat", shift)
    outputs = node.run().outputs
    expected = transform_distance(
        transforms.affine_transform(shift),
        transforms.read_transform(field),
        images.read_mask(pair.fixed_mask),
    )
    values = {name: getattr(outputs, name) for name in as_json(expected)}
    assert values == json.loads(Path(outputs.out_file).read_text()) == as_json(expected)
    assert 0 < outputs.mean < outputs.p99 <= outputs.max


def test_numbers_are_found_without_the_run(pair, field):
    ran = interfaces.JacobianSummary(displacement=field).run().outputs
    later = interfaces.JacobianSummary(displacement=field).aggregate_outputs()
    assert later.trait_get() == ran.trait_get()


def test_threads_do_not_cause_another_run(pair, tmp_path):
    def run(**options):
        node = Node(interfaces.ConformToGrid(in_file=pair.fixed), name="conform", **options)
        node.base_dir = tmp_path
        return Path(node.run().outputs.out_file).stat().st_mtime_ns

    first = run()
    assert run(n_procs=2) == first
    node = Node(interfaces.ConformToGrid(in_file=pair.fixed, mask=pair.fixed_mask), name="conform")
    node.base_dir = tmp_path
    assert Path(node.run().outputs.out_file).stat().st_mtime_ns > first


def test_error_of_a_node_names_the_file(pair, tmp_path):
    damaged = tmp_path / "damaged.nii.gz"
    damaged.write_text("nothing")
    node = Node(interfaces.ConformToGrid(in_file=damaged), name="conform", base_dir=tmp_path)
    with pytest.raises(NodeExecutionError, match=r"InputError: .*damaged.nii.gz: "):
        node.run()
