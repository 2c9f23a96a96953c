"""The registration to templates inside smriprep's own workflow, of smriprep 0.20 or newer.

smriprep 0.20 needs Python 3.12; ``make hosts`` runs these tests in an environment that has it.
Nothing is downloaded: TemplateFlow's index is in its package, and the images are made here.
"""

import importlib.metadata
import os
import shutil
from pathlib import Path

import nibabel as nib
import nitransforms
import numpy as np
import pytest
from nipype.pipeline.engine.utils import generate_expanded_graph

from nipype_quicksilver.spatial import transforms
from nipype_quicksilver.spatial.images import write_image
from nipype_quicksilver.workflows import init_template_registration_wf

try:
    VERSION = importlib.metadata.version("smriprep")
except importlib.metadata.PackageNotFoundError:
    VERSION = "0.0"
pytestmark = pytest.mark.skipif(
    tuple(map(int, VERSION.split(".")[:2])) < (0, 20),
    reason="smriprep 0.20 or newer is not installed",
)
#: Of the kinds that TemplateFlow has: with resolutions, with cohorts, with neither.
TEMPLATES = ["MNI152NLin2009cAsym", "MNIPediatricAsym:cohort-4", "MNI305"]
SPACES = ["MNI152NLin2009cAsym", "MNIPediatricAsym:cohort-4:res-2", "MNI305", "fsaverage:den-10k"]
PART = "register_template_wf"


def put_template(identifier, image, mask):
    """Write images into the empty files of a template of TemplateFlow."""
    from templateflow import api

    for path in api.ls(identifier, extension=".nii.gz"):
        path.write_bytes(Path(mask if path.name.endswith("_mask.nii.gz") else image).read_bytes())


@pytest.fixture(scope="module")
def small_templates(pair):
    """Templates of a few centimetres; OASIS30ANTs is that of smriprep's brain extraction."""
    for name in ("OASIS30ANTs", *TEMPLATES):
        put_template(name.split(":")[0], pair.fixed, pair.fixed_mask)


def init_host(folder, spaces, *, freesurfer=False, t1w="sub-1_T1w.nii.gz", precomputed=None):
    """Return smriprep's workflow of anatomical images."""
    from niworkflows.utils.spaces import Reference, SpatialReferences
    from smriprep.workflows.anatomical import init_anat_fit_wf

    references = SpatialReferences(
        [each for text in spaces for each in Reference.from_string(text)]
    )
    references.checkpoint()
    return init_anat_fit_wf(
        bids_root=str(folder),
        output_dir=str(folder / "out"),
        freesurfer=freesurfer,
        hires=False,
        longitudinal=False,
        msm_sulc=False,
        t1w=[str(t1w)],
        t2w=[],
        skull_strip_mode="force",
        skull_strip_template=Reference("OASIS30ANTs"),
        spaces=references,
        precomputed=precomputed or {},
        omp_nthreads=1,
        sloppy=True,
    )


def splice(host):
    """Replace the registration, as the documentation does; return the templates of the host."""
    from niworkflows.engine.splicer import splice_workflow

    ((_, templates),) = host.get_node(f"{PART}.inputnode").iterables
    ours = init_template_registration_wf(omp_nthreads=1, templates=templates, sloppy=True)
    splice_workflow(host, {"anat.register-template": ours})
    assert host.get_node(PART) is ours
    return templates


def connections(host):
    """Return all connections of a flat workflow, apart from those inside the registration."""
    return {
        (source.fullname, target.fullname, repr(fields))
        for source, target, data in host._create_flat_graph().edges(data=True)
        for fields in data["connect"]
        if not all(f".{PART}." in node.fullname for node in (source, target))
    }


@pytest.mark.parametrize("freesurfer", [False, True])
def test_every_connection_is_kept(small_templates, pair, tmp_path, freesurfer):
    host = init_host(tmp_path, SPACES, freesurfer=freesurfer)
    host.inputs.inputnode.roi = str(pair.fixed_mask)
    before = connections(host)
    assert len([each for each in before if f".{PART}." in repr(each)]) == 7
    assert splice(host) == TEMPLATES
    assert connections(host) == before
    expanded = generate_expanded_graph(host._create_flat_graph())
    registrations = [node for node in expanded if node.fullname.endswith(f"{PART}.register")]
    assert len(registrations) == len(TEMPLATES)
    for node in registrations:
        received = {
            field
            for _, _, data in expanded.in_edges(node, data=True)
            for _, field in data["connect"]
        }
        images = {"moving_image", "moving_image_mask", "fixed_image", "fixed_image_mask"}
        assert received == images
        assert node.inputs.moving_lesion_mask == str(pair.fixed_mask)


def test_the_host_describes_the_registration(small_templates, tmp_path):
    host = init_host(tmp_path, SPACES)
    assert "antsRegistration" in host.visit_desc()
    splice(host)
    text = host.visit_desc()
    assert "antsRegistration" not in text
    assert "MNI305 of *TemplateFlow* [@templateflow; @mni305] was performed by geodesic" in text
    assert "mapping (Yang et al., 2017, https://doi.org/" in text
    assert "[@quicksilver]" not in text  # unknown to the bibliography of the host


def test_templates_with_transforms_are_left_out(small_templates, tmp_path):
    found = {"MNI305": {"forward": "there.h5", "reverse": "back.h5"}}
    host = init_host(tmp_path, SPACES, precomputed={"transforms": found})
    assert splice(host) == TEMPLATES[:2]


def run(host, folder):
    """Run what needs no other programs than ours; return the saved transforms by their names."""
    host.remove_nodes([host.get_node("anat_reports_wf")])
    host.base_dir = str(folder / "work")
    host.run()
    return {path.name.partition("_")[2]: path for path in folder.glob("out/**/*_xfm.h5")}


def precomputed(image, mask):
    image, mask = str(image), str(mask)
    names = ("t1w_preproc", "t1w_mask", "t1w_dseg")
    return {**dict.fromkeys(names, mask), "t1w_preproc": image, "t1w_tpms": [mask] * 3}


def test_the_spliced_part_runs(small_templates, pair, tmp_path):
    t1w = tmp_path / "sub-1/anat/sub-1_T1w.nii.gz"
    t1w.parent.mkdir(parents=True)
    shutil.copy(pair.moving, t1w)
    roi = nib.load(pair.moving_labels)
    lesion = nib.Nifti1Image((np.asanyarray(roi.dataobj) == 2).astype(np.uint8), roi.affine)
    lesion = nib.as_closest_canonical(lesion)  # other axes than the image
    nib.save(lesion, tmp_path / "roi.nii.gz")
    host = init_host(tmp_path, TEMPLATES, t1w=t1w, precomputed=precomputed(t1w, pair.moving_mask))
    splice(host)
    host.get_node(f"{PART}.register").inputs.affine = "none"  # the small pair is aligned
    host.inputs.inputnode.roi = str(tmp_path / "roi.nii.gz")
    saved = run(host, tmp_path)
    names = ["MNI152NLin2009cAsym", "MNIPediatricAsym+4", "MNI305"]
    assert set(saved) == {
        f"from-{source}_to-{target}_mode-image_xfm.h5"
        for name in names
        for source, target in (("T1w", name), (name, "T1w"))
    }
    points = np.array([[1.0, 2.0, 3.0], [-4.0, 5.0, -2.0]])
    for name in names:
        to_image = transforms.read_transform(saved[f"from-T1w_to-{name}_mode-image_xfm.h5"])
        to_template = transforms.read_transform(saved[f"from-{name}_to-T1w_mode-image_xfm.h5"])
        there = transforms.map_points(to_image, points)
        np.testing.assert_allclose(transforms.map_points(to_template, there), points, atol=0.3)


@pytest.mark.skipif("QUICKSILVER_DATA" not in os.environ, reason="QUICKSILVER_DATA is not set")
def test_a_real_head(tmp_path):
    from nilearn.datasets import load_mni152_brain_mask, load_mni152_template

    from nipype_quicksilver.cli.main import main

    template, brain = load_mni152_template(resolution=1), load_mni152_brain_mask(resolution=1)
    files = [tmp_path / name for name in ("template.nii.gz", "template_mask.nii.gz")]
    for path, image in zip(files, (template, brain), strict=True):
        write_image(path, np.asarray(image.dataobj, np.float32), image.affine)
    put_template("MNI152NLin6Asym", *files)
    t1w = tmp_path / "sub-c/anat/sub-c_T1w.nii.gz"
    t1w.parent.mkdir(parents=True)
    shutil.copy(Path(os.environ["QUICKSILVER_DATA"]) / "heads/head-c_2mm_T1w.nii.gz", t1w)
    mask = tmp_path / "mask.nii.gz"
    assert main(["extract-brain", "--input", str(t1w), "--output-mask", str(mask), "--quiet"]) == 0
    host = init_host(tmp_path, ["MNI152NLin6Asym"], t1w=t1w, precomputed=precomputed(t1w, mask))
    splice(host)
    saved = run(host, tmp_path)
    path = saved["from-T1w_to-MNI152NLin6Asym_mode-image_xfm.h5"]
    # fMRIPrep reads transforms by nitransforms, whose interpolation is cubic.
    voxels = np.stack(np.nonzero(brain.get_fdata()[::8, ::8, ::8]), 1) * 8
    points = nib.affines.apply_affine(brain.affine, voxels)
    ours = transforms.map_points(transforms.read_transform(path), points)
    theirs = nitransforms.manip.load(path, fmt="h5").map(points)
    assert np.abs(ours - theirs).max() < 0.3
    # Masks and intensities of the template and of the head agree at corresponding points.
    head, extracted = nib.load(t1w), nib.load(mask)
    nearest = np.rint(nib.affines.apply_affine(np.linalg.inv(head.affine), ours)).astype(int)
    assert np.asanyarray(extracted.dataobj)[tuple(nearest.T)].mean() > 0.95
    pairs = template.get_fdata()[tuple(voxels.T)], head.get_fdata()[tuple(nearest.T)]
    assert np.corrcoef(*pairs)[0, 1] > 0.7
