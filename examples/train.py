"""Train a small network on the label maps or brains of one folder, and show that it learnt.

    python train.py my_label_maps/ --output-dir training
    python train.py --output-dir training

Files with "dseg" or "label" in their names are label maps, from which images are made; without any,
the other images are taken: brains without skull, aligned to each other. A quarter of the files is
kept for validation. Without a folder a few brains are made from the MNI152 template, each bent in
its own way. It takes some minutes on a CPU; `training/curve.png` shows the losses, and the overlap
of the validation brains before and after registration.
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

# Everything on a grid of 4 mm: small and fast, where the shipped networks see 2 mm.
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

# The tissues of the phantoms; the right half of the brain has the labels of the left and 3 more.
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
    """Write label maps of bent templates into a folder; return what to train on."""
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
    """Return what to train and to judge on: the files of a folder."""
    files = sorted(path for path in folder.iterdir() if path.name.endswith((".nii", ".nii.gz")))
    labels = [path for path in files if "dseg" in path.name or "label" in path.name]
    chosen = labels or files
    judged = max(2, len(chosen) // 4) if len(chosen) >= 4 else 0
    training, validation = chosen[: len(chosen) - judged], chosen[len(chosen) - judged :]
    if labels:
        return Data(labels=training, validation_labels=validation, tissues=tissues)
    return Data(images=training, validation_images=validation)


def show(status: Status) -> None:
    """Print a line now and then."""
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
    parser.add_argument("--recipe", type=Path, help="another recipe (JSON)")
    parser.add_argument("--iterations", type=int, help="instead of the recipe's")
    parser.add_argument("--phantoms", type=int, default=8, help="brains to make without a folder")
    args = parser.parse_args(argv)

    args.output_dir.mkdir(parents=True, exist_ok=True)
    recipe = args.output_dir / "my_recipe.json"
    facts = RECIPE if args.recipe is None else json.loads(args.recipe.read_text())
    if args.iterations:
        facts = {**facts, "training": {**facts["training"], "iterations": args.iterations}}
    recipe.write_text(json.dumps(facts, indent=2))
    if args.folder is None:
        data = make_phantoms(args.output_dir / "phantoms", args.phantoms)
    else:
        data = find_data(args.folder)

    with joined(torch.device("cpu")) as processes:
        run = args.output_dir / "run"
        trained = train(run, data, read_plan(recipe), processes=processes, progress=show)
    if trained.validation:
        for when in ("before", "after"):
            print(when, trained.validation[when])
    print(trained.checkpoint)
    print(run / "curve.png")


if __name__ == "__main__":
    main()
