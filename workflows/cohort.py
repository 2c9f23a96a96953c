"""Registration of many images, whose results are BIDS derivatives."""

from collections.abc import Sequence
from typing import Any

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline.engine import Node, Workflow

from nipype_quicksilver import __version__
from nipype_quicksilver.cohort.derivatives import Place
from nipype_quicksilver.cohort.images import CohortImage
from nipype_quicksilver.cohort.jobs import FIXED, CohortOptions, Job
from nipype_quicksilver.cohort.node import SaveDerivatives
from nipype_quicksilver.cohort.ownership import check_outputs
from nipype_quicksilver.interfaces import QuicksilverRegistration, RegistrationReport
from nipype_quicksilver.interfaces.preprocessing import SelectTemplate
from nipype_quicksilver.options import COHORT_OPTIONS, NONE, TRANSFORMS
from nipype_quicksilver.workflows.deprecation import renamed
from nipype_quicksilver.workflows.description import described_workflow
from nipype_quicksilver.workflows.preprocessing import init_affine_wf, init_brain_extraction_wf


def init_cohort_wf(
    *,
    jobs: Sequence[Job],
    place: Place,
    omp_nthreads: int,
    options: CohortOptions | None = None,
    use_gpu: bool = False,
    name: str = "cohort_wf",
    settings: CohortOptions | None = None,
) -> Workflow:
    """Build a workflow that registers many images and writes BIDS derivatives.

    Workflow Graph
        ::

            fixed (once):    select_template (-> brain_extraction_wf) -> outputnode
            IMAGE (of each): brain_extraction_wf -> outputnode
            JOB (of each):   affine_wf -> register -> report -> save

    Parameters
    ----------
    jobs : sequence of Job
        The registrations, see :func:`nipype_quicksilver.cohort.jobs.plan`.
    place : Place
        Folder of the derivatives; existing derivatives of the jobs are replaced.
    omp_nthreads : int
        Number of threads of each node that can use several.
    options : CohortOptions
        The fixed image, and the options of the registrations.
    use_gpu : bool
        Register on a GPU. Brains are extracted and aligned on the CPU, which other jobs leave
        idle meanwhile.
    name : str
        Name of the workflow.
    settings : CohortOptions, optional
        Earlier name of `options`; deprecated since version 0.2.

    Returns
    -------
    Workflow
        Without inputs; all of them are set. If a node fails, the jobs of other images continue.

    Raises
    ------
    InputError
        If an external tool is not installed, or a derivative would overwrite a file that is read,
        or files of others.

    Examples
    --------
    >>> from pathlib import Path
    >>> from nipype_quicksilver.cohort.jobs import plan
    >>> images = [CohortImage(Path(__file__), "01", None, "sub-01", "T1w")]
    >>> options = CohortOptions.of("MNI152")
    >>> wf = init_cohort_wf(
    ...     jobs=plan(images, options), options=options, place=Place(Path("/out")),
    ...     omp_nthreads=1,
    ... )
    >>> wf.get_node("sub-01_to-MNI152NLin2009aSym").list_node_names()
    ['affine_wf.align', 'affine_wf.inputnode', 'affine_wf.outputnode', 'register', 'report',
    'save']
    """
    chosen = renamed("settings", settings, "options", options)
    if chosen is None:
        raise TypeError("init_cohort_wf needs options")
    check_outputs(jobs, chosen, place.output_dir)
    workflow = described_workflow(
        name,
        f"{len(jobs)} images were registered by geodesic shooting in the framework of large "
        f"deformation diffeomorphic metric mapping [@quicksilver], with *nipype-quicksilver* "
        f"{__version__}.\n",
    )
    workflow.config["execution"] = {"stop_on_first_crash": "false"}
    sources = _Sources(workflow, chosen, omp_nthreads)
    for job in jobs:
        _add_job(workflow, job, chosen, place, sources, omp_nthreads, use_gpu)
    return workflow


class _Sources:
    """Workflows of single images, each of which is added at its first use.

    Parameters
    ----------
    workflow : Workflow
        Workflow to which they are added.
    chosen : CohortOptions
        Options of the cohort.
    omp_nthreads : int
        Number of threads of each node.
    """

    def __init__(self, workflow: Workflow, chosen: CohortOptions, omp_nthreads: int) -> None:
        self._workflow, self._chosen, self._threads = workflow, chosen, omp_nthreads
        self._known: dict[str, Workflow | None] = {}

    def of_image(self, image: CohortImage) -> Workflow | None:
        """Return the workflow that extracts the brain of an image; None if it needs none."""
        if image.mask is not None or self._chosen.registration["brain_extraction"] == NONE:
            return None
        if image.name not in self._known:
            part = Workflow(name=image.name)
            extraction_wf = self._extraction()
            extraction_wf.inputs.inputnode.in_file = str(image.path)
            part.add_nodes([extraction_wf])
            self._keep(part)
        return self._known[image.name]

    def of_fixed(self) -> Workflow:
        """Return the workflow that selects the fixed image and extracts its brain."""
        if FIXED not in self._known:
            self._keep(self._fixed())
        return self._known[FIXED]

    def _keep(self, part: Workflow) -> None:
        self._workflow.add_nodes([part])
        self._known[part.name] = part

    def _extraction(self) -> Workflow:
        return init_brain_extraction_wf(
            omp_nthreads=self._threads,
            brain_extraction=self._chosen.registration["brain_extraction"],
        )

    def _fixed(self) -> Workflow:
        """Build the workflow of the fixed image, with `outputnode`."""
        chosen, part = self._chosen, Workflow(name=FIXED)
        select_template = Node(
            SelectTemplate(template=chosen.fixed), mem_gb=0.5, name="select_template"
        )
        outputnode = Node(IdentityInterface(fields=["image", "brain", "mask"]), name="outputnode")
        part.connect(select_template, "template_file", outputnode, "image")
        if chosen.fixed_file is None or chosen.registration["brain_extraction"] == NONE:
            part.connect([
                (select_template, outputnode, [
                    ("template_file", "brain"),
                    ("template_mask", "mask"),
                ]),
            ])  # fmt: skip
            return part
        extraction_wf = self._extraction()
        part.connect([
            (select_template, extraction_wf, [("template_file", "inputnode.in_file")]),
            (extraction_wf, outputnode, [
                ("outputnode.out_file", "brain"),
                ("outputnode.out_mask", "mask"),
            ]),
        ])  # fmt: skip
        return part


def _add_job(
    workflow: Workflow,
    job: Job,
    chosen: CohortOptions,
    place: Place,
    sources: _Sources,
    omp_nthreads: int,
    use_gpu: bool,
) -> None:
    """Add the registration of one image."""
    part = Workflow(name=job.name)
    register = Node(
        QuicksilverRegistration(use_gpu=use_gpu, **_inputs(job, chosen)),
        n_procs=1 if use_gpu else omp_nthreads,
        mem_gb=4.0,
        name="register",
    )
    save = Node(SaveDerivatives(job=job, options=chosen, place=place), mem_gb=0.5, name="save")
    # The report reads files that are not connected to it: Nipype must not remove them.
    register.config = {"execution": {"remove_unnecessary_outputs": "false"}}
    report = Node(RegistrationReport(), mem_gb=1.5, name="report")
    affine = str(chosen.registration["affine"])
    if affine != NONE:
        report.inputs.affine = affine
    if sources.of_image(job.moving) is not None:
        report.inputs.brain_extraction = chosen.registration["brain_extraction"]
    part.connect([
        (register, report, [("summary", "summary")]),
        (register, save, [("summary", "summary")]),
        (report, save, [("out_file", "report")]),
    ])  # fmt: skip
    files = set(job.files()) & set(register.outputs.copyable_trait_names())
    part.connect([(register, save, [(name, name) for name in sorted(files)])])
    affine_wf = None
    if affine != NONE:
        dof = TRANSFORMS[chosen.registration["transform"]]
        affine_wf = init_affine_wf(omp_nthreads=omp_nthreads, affine=affine, dof=dof)
        part.connect(affine_wf, "outputnode.affine_transform", register, "initial_moving_transform")
    workflow.add_nodes([part])
    _connect_image(workflow, part, "moving", job.moving, sources.of_image(job.moving), affine_wf)
    if job.fixed is not None:
        _connect_image(workflow, part, "fixed", job.fixed, sources.of_image(job.fixed), affine_wf)
    else:
        _connect_fixed(workflow, part, sources.of_fixed(), affine_wf)


def _inputs(job: Job, chosen: CohortOptions) -> dict[str, Any]:
    """Return the inputs of a registration that are known when the workflow is built."""
    options = chosen.registration
    inputs: dict[str, Any] = {
        option.trait: options[name]  # type: ignore[literal-required]
        for name, option in COHORT_OPTIONS.items()
    }
    fixed_labels = chosen.fixed_labels if job.fixed is None else job.fixed.labels
    inputs |= {
        "moving_labels": job.moving.labels,
        # Without moving labels, there is nothing to compare them with.
        "fixed_labels": None if job.moving.labels is None else fixed_labels,
        # The affine of `affine_wf` is a file.
        "affine": NONE if options["affine"] == NONE else None,
        # Images have masks, or no skull.
        "brain_extraction": NONE,
    }
    if inputs["iterations"] is not None:
        inputs["iterations"] = list(inputs["iterations"])
    return {name: value for name, value in inputs.items() if value is not None}


def _connect_image(
    workflow: Workflow,
    part: Workflow,
    side: str,
    image: CohortImage,
    extracted: Workflow | None,
    affine_wf: Workflow | None,
) -> None:
    """Connect an image of the cohort with the nodes of a job; `side` is moving or fixed."""
    register = part.get_node("register")
    setattr(register.inputs, f"{side}_image", str(image.path))
    if image.lesion_mask is not None:
        setattr(register.inputs, f"{side}_lesion_mask", str(image.lesion_mask))
    if extracted is not None:
        out = "brain_extraction_wf.outputnode"
        targets = [(f"{out}.out_mask", f"register.{side}_image_mask")]
        if side == "moving":
            targets.append((f"{out}.out_mask", "save.brain_mask"))
        if affine_wf is not None:
            targets.append((f"{out}.out_file", f"affine_wf.inputnode.{side}_image"))
            targets.append((f"{out}.out_mask", f"affine_wf.inputnode.{side}_image_mask"))
        workflow.connect([(extracted, part, targets)])
        return
    masked = {} if image.mask is None else {f"{side}_image_mask": str(image.mask)}
    register.inputs.trait_set(**masked)
    if affine_wf is not None:
        affine_wf.inputs.inputnode.trait_set(**{f"{side}_image": str(image.path), **masked})


def _connect_fixed(
    workflow: Workflow, part: Workflow, fixed: Workflow, affine_wf: Workflow | None
) -> None:
    """Connect the fixed image with the nodes of a job."""
    targets = [
        ("outputnode.image", "register.fixed_image"),
        ("outputnode.mask", "register.fixed_image_mask"),
    ]
    if affine_wf is not None:
        targets.append(("outputnode.brain", "affine_wf.inputnode.fixed_image"))
        targets.append(("outputnode.mask", "affine_wf.inputnode.fixed_image_mask"))
    workflow.connect([(fixed, part, targets)])
