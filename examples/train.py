"""Train a small network on the label maps or brains of one folder, and plot its losses.

    python train.py my_label_maps/ --output-dir training
    python train.py --output-dir training

Files with "dseg" or "label" in their names are label maps, from which images are synthesised; if
there are none, the images of the folder are brains without skull, aligned to each other. A quarter
of the files is used for validation. Without a folder, a few brains are made by deforming the MNI152
template at random. It takes some minutes on a CPU; `training/curve.png` shows the losses, and the
overlap of the validation brains before and after registration.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from nipype_quicksilver.training.data import Data
from nipype_quicksilver.training.distributed import joined
from nipype_quicksilver.training.loop import Status
from nipype_quicksilver.training.recipes import read_plan
from nipype_quicksilver.training.train import train

# Everything on a grid of 4 mm: small and fast; the networks in the package use 2 mm.
RECIPE = {
    "format": "quicksilver-recipe",
    "version": 1,
    "architecture": {
        "name": "force-unet",
        "parameters": {"image": 4, "velocity": 4, "scales": [4, 8], "widths": [16, 24, 32]},
    },
    "grid": [176, 208, 176],
    "training": {"iterations": 300, "warm_up": 20, "averaging": 0.98, "factor": 4},
    "validation": {
        "ranges": {"geodesic": 0.0, "other_contrast": 0.0, "noise": 0.02, "common_rotation": 2.0},
        "pairs": 4,
        "every": 25,
    },
}

# The tissues of the phantoms; labels of the right half of the brain are 3 larger than of the left.
TISSUES = """\
label\tname\ttissue\tt1w\tt2w\tscored
1\tleft fluid\tfluid\t0.15\t1.0\t1
2\tleft gray matter\tgray\t0.6\t0.65\t1
3\tleft white matter\twhite\t0.9\t0.45\t1
4\tright fluid\tfluid\t0.15\t1.0\t1
5\tright gray matter\tgray\t0.6\t0.65\t1
6\tright white matter\twhite\t0.9\t0.45\t1
"""


def make_phantoms(folder: Path, number: int) -> Data:
    """Write label maps of deformed templates into a folder; return them as training data."""
    from nipype_quicksilver.demo.phantom import load_template, make_pair
    from nipype_quicksilver.spatial.images import write_image

    folder.mkdir(parents=True, exist_ok=True)
    template = load_template(2)
    for seed in range(number):
        path = folder / f"phantom-{seed:02d}_dseg.nii.gz"
        if path.exists():
            continue
        labels = make_pair(template, seed, torch.device("cpu")).fixed_labels
        data = np.array(labels.dataobj)
        right = np.arange(len(data))[:, None, None] * labels.affine[0, 0] + labels.affine[0, 3] > 0
        write_image(path, data + 3 * (right & (data > 0)).astype(np.uint8), labels.affine)
    table = folder / "tissues.tsv"
    table.write_text(TISSUES)
    return find_data(folder, tissues=table)


def find_data(folder: Path, tissues: Path | None = None) -> Data:
    """Return the files of a folder as training and validation data."""
    files = sorted(path for path in folder.iterdir() if path.name.endswith((".nii", ".nii.gz")))
    labels = [path for path in files if "dseg" in path.name or "label" in path.name]
    chosen = labels or files
    number = len(chosen) - (max(2, len(chosen) // 4) if len(chosen) >= 4 else 0)
    training, validation = chosen[:number], chosen[number:]
    if labels:
        return Data(labels=training, validation_labels=validation, tissues=tissues)
    return Data(images=training, validation_images=validation)


def show(status: Status) -> None:
    """Print a line every 25 iterations."""
    if status.iteration % 25 == 0 or status.iteration == status.iterations:
        dice = status.validation.get("overlap", float("nan"))
        print(
            f"{status.iteration} of {status.iterations}: loss {status.loss:.3f}, "
            f"validation Dice {dice:.3f}, {status.seconds_left:.0f} s left",
            flush=True,
        )


def main(argv: list[str] | None = None) -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", help="label maps, or brains")
    parser.add_argument("--output-dir", type=Path, required=True, help="folder of the training")
    parser.add_argument("--recipe", type=Path, help="recipe (JSON)")
    parser.add_argument("--iterations", type=int, help="iterations (default: the recipe's)")
    parser.add_argument(
        "--phantoms", type=int, default=8, help="number of brains to make if no folder is given"
    )
    args = parser.parse_args(argv)

    args.output_dir.mkdir(parents=True, exist_ok=True)
    recipe = args.output_dir / "my_recipe.json"
    content = RECIPE if args.recipe is None else json.loads(args.recipe.read_text())
    if args.iterations:
        content = {**content, "training": {**content["training"], "iterations": args.iterations}}
    recipe.write_text(json.dumps(content, indent=2))
    if args.folder is None:
        data = make_phantoms(args.output_dir / "phantoms", args.phantoms)
    else:
        data = find_data(args.folder)

    with joined(torch.device("cpu")) as processes:
        run = args.output_dir / "run"
        trained = train(run, data, read_plan(recipe), processes=processes, progress=show)
    if trained.validation is not None:
        print("before", trained.validation.before)
        print("after", trained.validation.after)
    print(trained.checkpoint)
    print(run / "curve.png")


if __name__ == "__main__":
    main()
