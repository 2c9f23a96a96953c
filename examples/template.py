"""Register people to the MNI152 template; compute their mean and differences in local volume.

    python template.py sub-01_T1w.nii.gz sub-02_T1w.nii.gz --output-dir normalized
    python template.py --output-dir normalized

Brains are extracted from heads first; brains without skull are left as they are. Every image has a
folder with its transforms in both directions. ``mean.nii.gz`` is the mean image on the grid of the
template, and ``sd_log_jacobian.nii.gz`` shows where the people differ in local volume. Without
images, a few brains are made by deforming the template at random.
"""

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np


def make_brains(folder: Path, number: int) -> list[Path]:
    """Write deformed templates with other contrasts and noise; return their files."""
    import torch

    from nipype_quicksilver.demo.phantom import load_template, make_pair

    folder.mkdir(parents=True, exist_ok=True)
    paths, template = [], load_template(2)
    for seed in range(number):
        paths.append(folder / f"phantom-{seed:02d}_T1w.nii.gz")
        nib.save(make_pair(template, seed, torch.device("cpu")).fixed, paths[-1])
    return paths


def normalize(image: Path, template: str, method: str, folder: Path) -> dict[str, Path]:
    """Register an image to the template; return the files of the result."""
    import nipype_quicksilver

    registration = nipype_quicksilver.register(template, image, method=method)
    similarity = registration.summary.similarity
    print(f"{image.name}: local correlation {similarity.before:.2f}, ", end="")
    print(f"{similarity.after:.2f} after registration", flush=True)
    return registration.save(folder / image.name.split(".")[0])


def main(argv: list[str] | None = None) -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", type=Path, nargs="*", help="T1-weighted heads or brains")
    parser.add_argument("--output-dir", type=Path, required=True, help="a folder for each image")
    parser.add_argument("--template", default="MNI152", help="MNI152, or an image")
    parser.add_argument("--method", default="correct", help="method of the registration")
    parser.add_argument(
        "--phantoms", type=int, default=3, help="number of brains to make if no images are given"
    )
    args = parser.parse_args(argv)

    images = args.images or make_brains(args.output_dir / "phantoms", args.phantoms)
    results = [normalize(i, args.template, args.method, args.output_dir) for i in images]

    for name, source, summarise in (
        ("mean", "warped", np.mean),
        ("sd_log_jacobian", "log_jacobian", np.std),
    ):
        stack = [nib.load(files[source]) for files in results]
        data = summarise([image.get_fdata(dtype=np.float32) for image in stack], axis=0)
        path = args.output_dir / f"{name}.nii.gz"
        nib.save(nib.Nifti1Image(data, stack[0].affine), path)
        print(path)


if __name__ == "__main__":
    main()
