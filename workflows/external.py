"""Brain extraction and affine by programs of other packages, which Nipype runs."""

from __future__ import annotations

import argparse
import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nipype_quicksilver.errors import QuicksilverError

if TYPE_CHECKING:
    import numpy as np
    from nibabel.nifti1 import Nifti1Image

from nipype_quicksilver.execution.crashes import last_lines

#: As `nipype_quicksilver.workflows` knows them; ANTs' extraction needs templates of its own.
BRAIN_EXTRACTIONS = ("bet", "synthstrip", "afni")
AFFINES = ("greedy", "ants", "reg_aladin", "flirt")


def chosen(args: argparse.Namespace) -> dict[str, Any]:
    """Return how brain and affine are found, as `nipype_quicksilver.register` takes it.

    Parameters
    ----------
    args
        Parsed arguments with `--brain-extraction`, `--affine` and the common options.

    Returns
    -------
    dict
        ``brain_extraction`` and ``affine``: as they were given, or an engine.

    Raises
    ------
    InputError
        If an engine is not installed.
    """
    ways = {"brain_extraction": args.brain_extraction, "affine": args.affine}
    if args.brain_extraction in BRAIN_EXTRACTIONS:
        ways["brain_extraction"] = _extraction(args)
    if args.affine in AFFINES:
        ways["affine"] = _alignment(args)
    return ways


def _extraction(args: argparse.Namespace) -> Any:
    """Return the engine of `--brain-extraction`."""
    from nipype_quicksilver.preprocessing.external import Engine
    from nipype_quicksilver.workflows import init_brain_extraction_wf

    engine = args.brain_extraction

    def extract(image: Nifti1Image) -> np.ndarray:
        from nipype_quicksilver.spatial.brains import mask_on_image
        from nipype_quicksilver.spatial.images import read_mask

        workflow = init_brain_extraction_wf(omp_nthreads=args.num_threads, engine=engine)
        with tempfile.TemporaryDirectory(prefix="quicksilver-") as folder:
            found = _run(workflow, {"in_file": image}, "out_mask", Path(folder), engine, args)
            return mask_on_image(read_mask(found), image)

    init_brain_extraction_wf(omp_nthreads=1, engine=engine)  # refuses what is not installed
    return Engine(engine, extract)


def _alignment(args: argparse.Namespace) -> Any:
    """Return the engine of `--affine`."""
    from nipype_quicksilver.preprocessing.external import Engine
    from nipype_quicksilver.workflows import init_affine_wf

    engine = args.affine

    def align(fixed: Nifti1Image, moving: Nifti1Image) -> np.ndarray:
        from nipype_quicksilver.spatial.transforms import read_affine

        workflow = init_affine_wf(omp_nthreads=args.num_threads, engine=engine)
        images = {"fixed_image": fixed, "moving_image": moving}
        with tempfile.TemporaryDirectory(prefix="quicksilver-") as folder:
            found = _run(workflow, images, "affine_transform", Path(folder), engine, args)
            return read_affine(found)

    init_affine_wf(omp_nthreads=1, engine=engine)
    return Engine(engine, align)


def _run(
    workflow: Any,
    images: dict[str, Nifti1Image],
    output: str,
    folder: Path,
    engine: str,
    args: argparse.Namespace,
) -> Path:
    """Run a workflow on images, in a folder; return the file of one of its outputs."""
    import numpy as np
    from nipype import DataSink, Node, Workflow
    from nipype.pipeline.engine.nodes import NodeExecutionError

    from nipype_quicksilver.spatial.images import write_image

    for name, image in images.items():
        file = write_image(folder / f"{name}.nii.gz", np.asanyarray(image.dataobj), image.affine)
        setattr(workflow.inputs.inputnode, name, str(file))
    host = Workflow(name="engine", base_dir=str(folder))
    host.config["execution"] = {"crashdump_dir": str(folder), "crashfile_format": "txt"}
    sink = Node(DataSink(base_directory=str(folder / "out")), name="sink")
    host.connect([(workflow, sink, [(f"outputnode.{output}", output)])])
    for name in ("nipype.workflow", "nipype.interface", "nipype.utils"):
        logging.getLogger(name).setLevel(logging.INFO if args.verbose else logging.CRITICAL)
    try:
        host.run()
    except NodeExecutionError as error:
        raise _failure(engine, str(error), args.work_dir) from error
    return next((folder / "out" / output).iterdir())


def _failure(engine: str, report: str, work_dir: Path | None) -> QuicksilverError:
    """Keep the report of a program that failed; return the error that tells of it."""
    log = (work_dir or Path(tempfile.mkdtemp(prefix="quicksilver-"))) / f"{engine}.log"
    log.write_text(report, encoding="utf-8")
    shown = " / ".join(last_lines(report)) or "it printed nothing"
    return QuicksilverError(f"{engine} failed: {shown} (the whole log is {log})")
