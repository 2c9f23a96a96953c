"""The files that the documentation names: tiny brains, label maps and networks."""

import contextlib
import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import from_matvec

from tests.conftest import labelled_brain
from tests.preprocessing.conftest import brain as natural_brain

#: Names in the documentation, and the files that stand for them, see `sources`. A folder is copied
#: with its content, and a network with its card. A block that names other files needs them here, or
#: is marked as not run.
FILES = {
    "fixed_T1w.nii.gz": "fixed",
    "moving_T1w.nii.gz": "moving",
    "T1w.nii.gz": "moving",
    "head.nii.gz": "fixed",
    "fixed_mask.nii.gz": "fixed_mask",
    "T1w_dseg.nii.gz": "moving_labels",
    "fixed_labels.nii.gz": "fixed_labels",
    "moving_labels.nii.gz": "moving_labels",
    "warped_labels.nii.gz": "fixed_labels",
    "moving_points.csv": "points",
    "fixed_brain.nii.gz": "natural_fixed",
    "moving_brain.nii.gz": "natural_moving",
    "fixed_conformed.nii.gz": "conformed_fixed",
    "moving_conformed.nii.gz": "conformed_moving",
    "momentum.nii.gz": "momentum",
    "a.nii.gz": "conformed_fixed",
    "b.nii.gz": "conformed_moving",
    "ab_momentum.nii.gz": "momentum",
    "ba_momentum.nii.gz": "momentum",
    "fixed_1.nii.gz": "conformed_fixed",
    "fixed_2.nii.gz": "conformed_fixed",
    "moving_1.nii.gz": "conformed_moving",
    "moving_2.nii.gz": "conformed_moving",
    "momentum_1.nii.gz": "momentum",
    "momentum_2.nii.gz": "momentum",
    "affine.mat": "affine",
    "warp.nii.gz": "warp",
    "prediction.safetensors": "prediction_network",
    "OASIS_predict.pth.tar": "original",
    "OASIS_correct.pth.tar": "original",
    "training": "training",
    "validation": "validation",
    "brains": "training_brains",
    "others": "validation_brains",
    "registration": "registration",
    "sub-01": "registration",
    "sub-02": "registration",
    "sub-03": "registration",
}

#: Recipes in place of those that come with the package, which train for hours.
RECIPES = {
    "force-unet": {
        "architecture": {
            "name": "force-unet",
            "parameters": {"image": 2, "velocity": 4, "scales": [2, 4], "widths": [4, 8]},
        },
        "grid": [32, 32, 32],
        "training": {"iterations": 2, "warm_up": 1},
        "validation": {"pairs": 2, "every": 2},
    },
    "patch": {
        "architecture": {"name": "patch", "parameters": {"features": 1, "patch_size": 7}},
        "training": {"iterations": 2, "batch_size": 4, "stride": 7},
    },
}


@pytest.fixture(scope="session")
def sources(pair, conformed_pair, tiny_networks, label_maps, tmp_path_factory):
    """Path of everything that stands for a file of the documentation, by name."""
    from nipype_quicksilver.cli.main import main
    from nipype_quicksilver.spatial.grids import Grid
    from nipype_quicksilver.spatial.images import write_image
    from nipype_quicksilver.spatial.transforms import write_displacement

    folder = tmp_path_factory.mktemp("sources")
    files = {**vars(pair), **tiny_networks}
    files |= {f"conformed_{side}": conformed_pair[side] for side in ("fixed", "moving")}
    files["points"] = folder / "points.csv"
    files["points"].write_text("x,y,z\n1,2,3\n-4,0,2\n")
    fixed = Grid.from_image(nib.load(pair.fixed))
    files["warp"] = write_displacement(
        folder / "warp.nii.gz", np.zeros((*fixed.shape, 3), np.float32), fixed
    )
    grid = Grid((38, 44, 32), from_matvec(np.eye(3) * 5, [-93, -105, -78]))
    for side, shift in (("fixed", 0), ("moving", [8, -5, 4])):
        path = folder / f"natural_{side}.nii.gz"
        files[path.name[:-7]] = write_image(
            path, natural_brain(grid.coordinates() - shift), grid.affine
        )
    files["momentum"] = folder / "momentum.nii.gz"
    pair = ["--fixed", conformed_pair["fixed"], "--moving", conformed_pair["moving"]]
    line = ["optimize", *pair, "--output", files["momentum"], "--iterations", "1x0x1x0"]
    assert main([str(word) for word in [*line, "--quiet"]]) == 0
    for name, numbers in (("training", (1, 2)), ("validation", (3, 4))):
        files[name], files[f"{name}_brains"] = folder / name, folder / f"{name}_brains"
        for number in numbers:
            labels = labelled_brain(number)
            intensities = (labels % 40 * 10 + 20 * (labels > 0)).astype(np.int16)
            for kind, data in ((name, labels), (f"{name}_brains", intensities)):
                files[kind].mkdir(exist_ok=True)
                write_image(files[kind] / f"sub-{number}.nii.gz", data, np.eye(4))
    files["registration"] = folder / "registration"
    line = ["register", "--fixed", files["fixed"], "--moving", files["moving"], "--quiet"]
    line += ["--method", "predict", "--output-dir", files["registration"]]
    assert main([str(word) for word in line]) == 0
    files["original"] = original_network(folder / "original.pth.tar")
    return files


def original_network(path):
    """Write a network of the paper, as small as can be, in the original project's layout."""
    import torch

    from nipype_quicksilver.networks.original import _names
    from nipype_quicksilver.networks.patch_network import PatchNetwork

    state = PatchNetwork(features=1).state_dict()
    content = {
        "state_dict": {name: state[ours] for ours, name in _names() if ours in state},
        "network_feature": 1,
        "patch_size": 15,
        "deformation_params": {"diffOpParams": [0.01, 0.01, 0.001], "nTimeSteps": 10},
    }
    torch.save(content, path)
    return path


@pytest.fixture
def reader(sources, tmp_path, monkeypatch):
    """The folder of a reader of a page; brains are small there, and runs are short."""
    from nipype_quicksilver import data
    from nipype_quicksilver.interfaces.base import QuicksilverCommand
    from nipype_quicksilver.lddmm import settings
    from nipype_quicksilver.preprocessing import templates
    from nipype_quicksilver.registration import alignment
    from nipype_quicksilver.training import plan

    for name, source in FILES.items():
        path = sources[source]
        if path.is_dir():
            shutil.copytree(path, tmp_path / name)
            continue
        shutil.copy(path, tmp_path / name)
        if path.suffix == ".safetensors":
            card = (tmp_path / name).with_suffix(".json")
            shutil.copy(path.with_suffix(".json"), card)
    monkeypatch.chdir(tmp_path)
    for name in data.SHIPPED:
        kind = "patch" if name == "patch" else "force-unet"
        content = {"format": plan.FORMAT, "version": plan.VERSION, **RECIPES[kind]}
        (tmp_path / f".recipe_{name}.json").write_text(json.dumps(content))
    monkeypatch.setattr(data, "shipped_recipe", lambda name: tmp_path / f".recipe_{name}.json")
    stages = tuple(replace(stage, iterations=2) for stage in settings.DEFAULT_STAGES)
    monkeypatch.setitem(settings.SCHEDULES, "full", settings.Settings(stages=stages))
    monkeypatch.setattr(QuicksilverCommand, "_run_interface", in_this_process)
    # Only the affine needs a brain of natural size.
    for module, source in ((templates, "natural_fixed"), (alignment, "fixed")):
        monkeypatch.setattr(module, "template_file", template_file(sources[source]))
    return tmp_path


def in_this_process(node, runtime):
    """Run the command of a node here, where runs are short, instead of in a process of its own."""
    from nipype_quicksilver.cli.main import main

    words = shlex.split(node.cmdline)
    begin = words.index("nipype_quicksilver") + 1 if "-m" in words else 1
    with contextlib.chdir(runtime.cwd):
        runtime.returncode = main(words[begin:])
    assert runtime.returncode == 0, node.cmdline
    return runtime


def template_file(instead):
    """Return a function that uses another image as the MNI152 template."""
    return lambda name, folder: instead if str(name) == "MNI152" else Path(name)
