"""Nodes that train networks, and build data sets of momenta for training."""

import os
from typing import Any

from nipype.interfaces.base import (
    Directory,
    File,
    InputMultiObject,
    TraitedSpec,
    isdefined,
    traits,
)

from nipype_quicksilver.interfaces.base import (
    CommandInputSpec,
    QuicksilverCommand,
    SeededInputSpec,
    hash_with_files,
)
from nipype_quicksilver.options import ROLES


class BuildMomentumDatasetInputSpec(CommandInputSpec):
    """Inputs of `BuildMomentumDataset`."""

    fixed_images = InputMultiObject(
        File(exists=True),
        mandatory=True,
        argstr="--fixed %s",
        desc="fixed image of each pair, on the working grid, normalised",
    )
    moving_images = InputMultiObject(
        File(exists=True),
        mandatory=True,
        argstr="--moving %s",
        desc="moving image of each pair, on the same grid",
    )
    momenta = InputMultiObject(
        File(exists=True),
        mandatory=True,
        argstr="--momenta %s",
        desc="optimised momentum of each pair",
    )
    prediction = File(
        exists=True,
        argstr="--prediction %s",
        desc="checkpoint of a patch network, to build the data set of its correction network",
    )
    output_dir = Directory(
        "momenta", usedefault=True, argstr="--output-dir %s", desc="folder of the data set"
    )


class BuildMomentumDatasetOutputSpec(TraitedSpec):
    """Outputs of `BuildMomentumDataset`."""

    dataset = Directory(exists=True, desc="folder of the data set")
    index = File(exists=True, desc="its pairs and their files (TSV)")


class BuildMomentumDataset(QuicksilverCommand):
    """Build a data set of pairs of images and their momenta, for training patch networks.

    Examples
    --------
    >>> files = [getfixture("tmp_path") / f"{x}.nii.gz" for x in ("fixed", "moving", "momentum")]
    >>> [file.touch() for file in files]
    [None, None, None]
    >>> node = BuildMomentumDataset(fixed_images=files[0], moving_images=files[1])
    >>> node.inputs.momenta = [files[2]]
    >>> node.cmdline
    '...dataset --fixed /...fixed.nii.gz --momenta /...momentum.nii.gz
    --moving /...moving.nii.gz --num-threads 1 --output-dir momenta --device cpu'
    """

    _cmd = "dataset"
    input_spec = BuildMomentumDatasetInputSpec
    output_spec = BuildMomentumDatasetOutputSpec

    def _list_outputs(self) -> dict[str, Any]:
        folder = os.path.abspath(self.inputs.output_dir)
        return {"dataset": folder, "index": os.path.join(folder, "index.tsv")}


class TrainNetworkInputSpec(SeededInputSpec):
    """Inputs of `TrainNetwork`."""

    recipe = File(
        exists=True,
        mandatory=True,
        argstr="--recipe %s",
        desc="recipe (JSON); those in the package: `nipype_quicksilver.workflows.training.RECIPES`",
    )
    labels = InputMultiObject(
        File(exists=True), argstr="--labels %s", desc="label maps to synthesise images from"
    )
    validation_labels = InputMultiObject(
        File(exists=True), argstr="--validation %s", desc="label maps for validation"
    )
    images = InputMultiObject(
        File(exists=True),
        argstr="--images %s",
        desc="brains without skull, aligned to each other by their headers",
    )
    validation_images = InputMultiObject(
        File(exists=True), argstr="--validation-images %s", desc="brains for validation"
    )
    image_labels = InputMultiObject(
        File(exists=True),
        argstr="--image-labels %s",
        desc="label maps of images, then of validation_images, on their grids",
    )
    momenta = Directory(
        exists=True, argstr="--momenta %s", desc="data set of `BuildMomentumDataset`"
    )
    validation_momenta = Directory(
        exists=True, argstr="--validation-momenta %s", desc="data set for validation"
    )
    tissues = File(exists=True, argstr="--tissues %s", desc="table of the labels and their tissues")
    role = traits.Enum(*ROLES, usedefault=True, argstr="--role %s", desc="role of the network")
    before = InputMultiObject(
        File(exists=True),
        argstr="--before %s...",
        desc="checkpoints that a correction network corrects, in their order",
    )
    start = File(
        exists=True,
        argstr="--start %s",
        desc="checkpoint with the initial weights (default: random weights)",
    )
    iterations = traits.Range(
        low=1, argstr="--iterations %d", desc="iterations (default: the recipe's)"
    )
    patience = traits.Range(
        low=0,
        argstr="--patience %d",
        desc="stop after this number of validations without improvement",
    )
    licence = traits.Str(argstr="--licence %s", desc="licence of the weights, for the card")
    half = traits.Bool(argstr="--half", desc="store the weights as float16")
    output_dir = Directory(
        "training",
        usedefault=True,
        argstr="--output-dir %s",
        desc="folder of the training; in a folder outside the node's, which Nipype empties, the "
        "training is resumed when the node is run again",
    )

    def get_hashval(self, hash_method: str | None = None) -> Any:
        """Return the values and the digest of all inputs, with the files of data sets."""
        files = {
            f"{name}_{file}": os.path.join(folder, file)
            for name in ("momenta", "validation_momenta")
            if isdefined(folder := getattr(self, name))
            for file in sorted(os.listdir(folder))
        }
        return hash_with_files(self, super().get_hashval(hash_method), files, hash_method)


class TrainNetworkOutputSpec(TraitedSpec):
    """Outputs of `TrainNetwork`."""

    checkpoint = File(exists=True, desc="weights, next to their card")
    card = File(exists=True, desc="the card (JSON)")
    log = File(exists=True, desc="losses of every iteration (CSV)")
    validation = File(exists=True, desc="numbers of every validation (CSV)")
    curve = File(exists=True, desc="plot of losses and validations (PNG)")


class TrainNetwork(QuicksilverCommand):
    """Train a network on label maps, images or momenta.

    The checkpoint needs its card next to it. Nipype removes outputs that are not connected, so
    connect `card` too, or set `output_dir` to a folder outside the node's.

    Examples
    --------
    >>> folder = getfixture("tmp_path")
    >>> files = [folder / f"{x}" for x in ("recipe.json", "a_dseg.nii.gz", "b_dseg.nii.gz")]
    >>> [file.touch() for file in files]
    [None, None, None]
    >>> node = TrainNetwork(recipe=files[0], labels=files[1:], iterations=100)
    >>> node.cmdline
    '...train --iterations 100 --labels /...a_dseg.nii.gz /...b_dseg.nii.gz --num-threads 1
    --output-dir training --seed 0 --recipe /...recipe.json --role prediction --device cpu'
    """

    _cmd = "train"
    input_spec = TrainNetworkInputSpec
    output_spec = TrainNetworkOutputSpec

    def _list_outputs(self) -> dict[str, Any]:
        folder = os.path.abspath(self.inputs.output_dir)
        files = {
            "checkpoint": f"{self.inputs.role}.safetensors",
            "card": f"{self.inputs.role}.json",
            "log": "log.csv",
            "validation": "validation.csv",
            "curve": "curve.png",
        }
        return {name: os.path.join(folder, file) for name, file in files.items()}
