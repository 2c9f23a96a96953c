"""Label a brain by several labelled atlases: volumes of its regions, as a table.

    python multiatlas.py --target sub-01_T1w.nii.gz --output-dir labelled \\
        --atlases a_T1w.nii.gz b_T1w.nii.gz c_T1w.nii.gz \\
        --atlas-labels a_dseg.nii.gz b_dseg.nii.gz c_dseg.nii.gz
    python multiatlas.py --output-dir labelled

Every atlas is registered to the target, its labels are warped, and the warped labels are fused into
``dseg.nii.gz``; ``volumes.tsv`` lists the volume of each. Without a target, brains with known
tissues are made by deforming the MNI152 template, and the result is compared with the truth.
"""

import argparse
from pathlib import Path

from nipype import Node, Workflow
from nipype.interfaces.io import ExportFile

from nipype_quicksilver.workflows import init_label_propagation_wf

NAMES = "index\tname\n1\tCSF\n2\tgray matter\n3\twhite matter\n"


def make_brains(folder: Path, number: int) -> list[tuple[Path, Path]]:
    """Write deformed templates and their tissues into a folder; return the files of each."""
    import nibabel as nib
    import torch

    from nipype_quicksilver.demo.phantom import load_template, make_pair

    folder.mkdir(parents=True, exist_ok=True)
    paths, template = [], load_template(2)
    for seed in range(number):
        pair = make_pair(template, seed, torch.device("cpu"))
        paths.append(tuple(folder / f"phantom-{seed:02d}_{x}.nii.gz" for x in ("T1w", "dseg")))
        for path, image in zip(paths[-1], (pair.fixed, pair.fixed_labels), strict=True):
            nib.save(image, path)
    return paths


def build(args: argparse.Namespace) -> Workflow:
    """Return the workflow that labels the target and writes the results."""
    workflow = Workflow(name="multiatlas_wf", base_dir=str(args.work_dir.absolute()))
    labels_wf = init_label_propagation_wf(omp_nthreads=args.omp_nthreads, fusion=args.fusion)
    labels_wf.get_node("register").inputs.method = args.method
    inputs = labels_wf.inputs.inputnode
    inputs.target_image = str(args.target.absolute())
    inputs.atlas_images = [str(path.absolute()) for path in args.atlases]
    inputs.atlas_labels = [str(path.absolute()) for path in args.atlas_labels]
    if args.names:
        inputs.label_table = str(args.names.absolute())
    for field, file in (("fused_labels", "dseg.nii.gz"), ("volumes", "volumes.tsv")):
        target = str(args.output_dir.absolute() / file)
        export = Node(ExportFile(out_file=target, clobber=True), name=f"export_{field}")
        workflow.connect(labels_wf, f"outputnode.{field}", export, "in_file")
    return workflow


def compare(result: Path, truth: Path) -> None:
    """Print the overlap with the true labels."""
    from nipype_quicksilver.spatial.images import read_labels
    from nipype_quicksilver.spatial.measures import label_overlap

    overlap = label_overlap(read_labels(truth), read_labels(result))
    for label, row in overlap.labels.items():
        print(f"label {label}: Dice {row.dice:.3f}")


def main(argv: list[str] | None = None) -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", type=Path, help="image to label")
    parser.add_argument("--atlases", type=Path, nargs="+", default=[], help="labelled images")
    parser.add_argument("--atlas-labels", type=Path, nargs="+", default=[], help="their label maps")
    parser.add_argument("--names", type=Path, help="table of the labels: dseg.tsv or FreeSurfer's")
    parser.add_argument("--output-dir", type=Path, required=True, help="folder of the results")
    parser.add_argument("--work-dir", type=Path, default=Path("work"), help="Nipype's own folder")
    parser.add_argument("--fusion", default="weighted", help="weighted, staple or majority")
    parser.add_argument("--method", default="correct", help="of `quicksilver register`")
    parser.add_argument("--n-procs", type=int, default=1, help="total number of CPUs")
    parser.add_argument(
        "--omp-nthreads", type=int, default=1, help="number of threads of each node"
    )
    parser.add_argument(
        "--phantoms", type=int, default=4, help="number of brains that are made without a target"
    )
    args = parser.parse_args(argv)

    args.output_dir.mkdir(parents=True, exist_ok=True)
    truth = None
    if args.target is None:
        folder = args.output_dir / "phantoms"
        (args.target, truth), *atlases = make_brains(folder, args.phantoms)
        args.atlases, args.atlas_labels = zip(*atlases, strict=True)
        args.names = folder / "dseg.tsv"
        args.names.write_text(NAMES)
    workflow = build(args)
    if args.n_procs > 1:
        workflow.run(plugin="MultiProc", plugin_args={"n_procs": args.n_procs})
    else:
        workflow.run()
    print((args.output_dir / "volumes.tsv").read_text(), end="")
    if truth:
        compare(args.output_dir / "dseg.nii.gz", truth)


if __name__ == "__main__":
    main()
