"""Use the registration workflow in your own workflow: volume changes of regions, as a table.

    python workflow.py --fixed fixed_brain.nii.gz --fixed-labels fixed_labels.nii.gz \\
        --moving sub-01_brain.nii.gz sub-02_brain.nii.gz --output-dir volumes

Every moving brain is registered to the fixed brain. The mean logarithm of the Jacobian determinant
over a region of the fixed brain is above 0 if the region is larger in the moving brain, and below 0
if it is smaller.
"""

import argparse
from pathlib import Path

from nipype import DataSink, Function, Node, Workflow

from nipype_quicksilver.workflows import init_quicksilver_wf


def regional_means(log_jacobian, labels):
    """Write the mean log-Jacobian of each label as CSV; imports are inside, as Nipype needs."""
    from pathlib import Path

    import nibabel as nib
    import numpy as np

    values = nib.load(log_jacobian).get_fdata()
    regions = np.asanyarray(nib.load(labels).dataobj)
    rows = ["label,mean_log_jacobian"]
    for label in np.unique(regions[regions != 0]):
        rows.append(f"{int(label)},{np.nanmean(values[regions == label]):.4f}")
    path = Path("regions.csv").absolute()
    path.write_text("\n".join(rows) + "\n")
    return str(path)


def build(args: argparse.Namespace) -> Workflow:
    """Return the whole workflow: a registration, a measurement and a folder for each brain."""
    workflow = Workflow(name="volumes_wf", base_dir=str(args.work_dir.absolute()))
    for number, moving in enumerate(args.moving, start=1):
        options = {}
        if args.iterations:
            options = {"method": "optimize", "iterations": tuple(args.iterations)}
        quicksilver_wf = init_quicksilver_wf(
            omp_nthreads=args.omp_nthreads, name=f"quicksilver_{number}_wf", **options
        )
        quicksilver_wf.inputs.inputnode.fixed_image = str(args.fixed.absolute())
        quicksilver_wf.inputs.inputnode.moving_image = str(moving.absolute())

        regions = Node(
            Function(["log_jacobian", "labels"], ["out_file"], regional_means),
            name=f"regions_{number}",
        )
        regions.inputs.labels = str(args.fixed_labels.absolute())

        folder = args.output_dir.absolute() / moving.name.split(".")[0]
        sink = Node(DataSink(base_directory=str(folder)), name=f"sink_{number}")
        workflow.connect([
            (quicksilver_wf, regions, [("outputnode.log_jacobian", "log_jacobian")]),
            (quicksilver_wf, sink, [
                ("outputnode.composite_transform", "@composite"),
                ("outputnode.warped_image", "@warped"),
            ]),
            (regions, sink, [("out_file", "@regions")]),
        ])  # fmt: skip
    return workflow


def main(argv: list[str] | None = None) -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fixed", type=Path, required=True, help="fixed brain")
    parser.add_argument("--fixed-labels", type=Path, required=True, help="label map of its regions")
    parser.add_argument("--moving", type=Path, nargs="+", required=True, help="brains to register")
    parser.add_argument("--output-dir", type=Path, required=True, help="a folder for each brain")
    parser.add_argument(
        "--work-dir", type=Path, default=Path("work"), help="working folder of Nipype"
    )
    parser.add_argument("--n-procs", type=int, default=1, help="processors of all nodes together")
    parser.add_argument("--omp-nthreads", type=int, default=1, help="threads of each node")
    parser.add_argument(
        "--iterations",
        type=int,
        nargs="+",
        metavar="N",
        help="optimise; largest number in each stage",
    )
    parser.add_argument("--graph", action="store_true", help="draw the workflow and do not run it")
    args = parser.parse_args(argv)

    workflow = build(args)
    if args.graph:
        # The .dot file is always written; the picture needs the program `dot` of Graphviz.
        workflow.write_graph(graph2use="colored", format="png")
    elif args.n_procs > 1:
        workflow.run(plugin="MultiProc", plugin_args={"n_procs": args.n_procs})
    else:
        workflow.run()


if __name__ == "__main__":
    main()
