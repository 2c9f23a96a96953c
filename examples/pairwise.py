"""Register a moving brain to a fixed brain, and warp the moving labels.

    python pairwise.py fixed_T1w.nii.gz moving_T1w.nii.gz registration
    python pairwise.py fixed_T1w.nii.gz moving_T1w.nii.gz registration \\
        --affine moving_to_fixed.mat --moving-labels moving_labels.nii.gz

Brains are extracted from heads first; brains without skull are left as they are. ``--node`` uses
the Nipype nodes instead of the Python API.
"""

import argparse
from pathlib import Path


def register_by_api(args: argparse.Namespace) -> Path:
    """Register by the Python API; return the transform that warps the moving image."""
    import nipype_quicksilver

    options = {}
    if args.iterations:
        options = {"method": "optimize", "iterations": tuple(args.iterations)}
    registration = nipype_quicksilver.register(
        args.fixed,
        args.moving,
        affine=args.affine or "simpleitk",
        **options,
    )
    similarity = registration.summary.similarity
    print(f"local correlation: {similarity.before:.4f} before, {similarity.after:.4f} after")
    return registration.save(args.output_dir)["composite"]


def label_by_api(args: argparse.Namespace, transform: Path, output: Path) -> None:
    """Resample the moving labels onto the grid of the fixed image."""
    from nipype_quicksilver.spatial.applying import apply_to_image
    from nipype_quicksilver.spatial.transforms import read_transform

    apply_to_image(
        args.moving_labels,
        args.fixed,
        output,
        read_transform(transform),
        interpolation="GenericLabel",
    )


def register_by_node(args: argparse.Namespace) -> Path:
    """Register by the Nipype node; return the transform that warps the moving image."""
    from nipype_quicksilver.interfaces import QuicksilverRegistration

    node = QuicksilverRegistration(fixed_image=args.fixed, moving_image=args.moving)
    node.inputs.output_dir = args.output_dir.absolute()
    if args.affine:
        node.inputs.initial_moving_transform = args.affine
    if args.iterations:
        node.inputs.method = "optimize"
        node.inputs.iterations = args.iterations
    print(node.cmdline)
    return Path(node.run().outputs.composite_transform)


def label_by_node(args: argparse.Namespace, transform: Path, output: Path) -> None:
    """Resample the moving labels onto the grid of the fixed image."""
    from nipype_quicksilver.interfaces import ApplyTransforms

    node = ApplyTransforms(interpolation="GenericLabel")
    node.inputs.input_image = args.moving_labels
    node.inputs.reference_image = args.fixed
    node.inputs.transforms = [transform]
    node.inputs.output_image = output.absolute()
    node.run()


def main(argv: list[str] | None = None) -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("fixed", type=Path, help="fixed brain")
    parser.add_argument("moving", type=Path, help="moving brain, which is warped")
    parser.add_argument("output_dir", type=Path, help="folder of the results")
    parser.add_argument("--affine", type=Path, help="ITK affine that maps fixed to moving points")
    parser.add_argument("--moving-labels", type=Path, help="label map of the moving brain")
    parser.add_argument("--node", action="store_true", help="use the Nipype nodes")
    parser.add_argument(
        "--iterations",
        type=int,
        nargs="+",
        metavar="N",
        help="optimise; largest number in each stage",
    )
    args = parser.parse_args(argv)

    transform = register_by_node(args) if args.node else register_by_api(args)
    if args.moving_labels:
        output = args.output_dir / "labels_in_fixed.nii.gz"
        label = label_by_node if args.node else label_by_api
        label(args, transform, output)
        print(output)


if __name__ == "__main__":
    main()
