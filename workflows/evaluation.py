"""Comparison of methods on many pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nipype.interfaces.utility import Function, IdentityInterface, Merge, Select
from nipype.pipeline.engine import MapNode, Node, Workflow

from nipype_quicksilver import __version__
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.evaluation.methods import (
    AFFINES,
    DEFAULT,
    OWN,
    REFERENCE,
    START,
    check_methods,
    node_inputs,
)
from nipype_quicksilver.evaluation.pairs import Pair
from nipype_quicksilver.interfaces import (
    AffineRegistration,
    BrainExtraction,
    ConformToGrid,
    MeasureRegistration,
    NormalizeIntensity,
    QuicksilverRegistration,
    SummarizeEvaluation,
    TimePrediction,
)
from nipype_quicksilver.interfaces.peers import GreedyRegistration, SynRegistration
from nipype_quicksilver.options import NONE
from nipype_quicksilver.tools import SIMPLEITK
from nipype_quicksilver.workflows.description import described_workflow

if TYPE_CHECKING:
    from nipype_quicksilver.spatial.files import PathLike

SIDES = ("fixed", "moving")
#: Number of runs of each prediction that is timed.
RUNS = 3
#: Nodes of external tools, and their memory, GB.
PEERS = {"greedy": (GreedyRegistration, 1.5), "SyN": (SynRegistration, 3.0)}


@dataclass(frozen=True)
class _Source:
    """Output of a node: a list with one item per pair."""

    node: Node
    output: Any


def init_evaluation_wf(
    *,
    pairs: Sequence[Pair],
    omp_nthreads: int,
    methods: Sequence[str] = DEFAULT,
    affine: str = SIMPLEITK,
    prediction_network: PathLike | None = None,
    correction_network: PathLike | None = None,
    timed_threads: Sequence[int] = (),
    use_gpu: bool = False,
    name: str = "evaluation_wf",
) -> Workflow:
    """Build a workflow that registers pairs by several methods, and compares the methods.

    All methods start from the same brains and the same affine. Labels are warped by nearest
    neighbour. Every step but the summary is a `MapNode`, with one node for each image, for each
    pair, or for each pair and method.

    Workflow Graph
        ::

            brains -> align -> register_METHOD -> measure_METHOD (each method) -> summarize
                        |                              ^
                        +-> measure_affine             | (its map)
                                                 register_LO

        With `timed_threads`, conform -> normalize -> time -> summarize.

    Parameters
    ----------
    pairs : sequence of Pair
        From :func:`~nipype_quicksilver.evaluation.pairs.read_pairs`, or of a data set; all with
        the same optional files.
    omp_nthreads : int
        Number of threads of each node that can use several.
    methods : sequence of str
        Methods to compare, of `evaluation.methods.METHODS`; their maps are compared with those
        of LO, if it is among them.
    affine : {'simpleitk', 'none'}
        How affines are estimated if the pairs have none; ``none``: the headers align the images.
    prediction_network, correction_network : path-like, optional
        Checkpoints of the methods that predict; default: those of the package.
    timed_threads : sequence of int
        Numbers of threads with which the prediction of the first pair is timed, after everything
        else; default: it is not timed.
    use_gpu : bool
        Whether to predict and optimise on a GPU.
    name : str
        Name of the workflow.

    Returns
    -------
    Workflow
        With `outputnode`; the pairs are its only inputs.

    Outputs
    -------
    output_dir
        Folder of tables and figures, see `SummarizeEvaluation`.
    summary
        Summary of each method (JSON).

    Raises
    ------
    InputError
        If there are no pairs, or a method is unknown, not installed or lacks a network.

    Examples
    --------
    >>> folder = getfixture("tmp_path")
    >>> files = [folder / f"{x}.nii.gz" for x in ("a", "b", "a_labels", "b_labels")]
    >>> [file.touch() for file in files]
    [None, None, None, None]
    >>> wf = init_evaluation_wf(pairs=[Pair("b_to_a", *files)], omp_nthreads=2, methods=["LP"])
    >>> wf.get_node("register_LP").inputs.method
    'predict'
    """
    pairs = list(pairs)
    if not pairs:
        raise InputError("there are no pairs to evaluate; give one at least")
    if affine not in AFFINES:
        raise InputError(f"affine '{affine}' is unknown; give {', '.join(AFFINES)}")
    check_methods(methods)
    workflow = described_workflow(
        name,
        f"Methods were compared by the target overlap of labels [@overlap] on {len(pairs)} pairs "
        f"of images, from the same affine, with *nipype-quicksilver* {__version__}.\n",
    )
    build = _Builder(workflow, pairs, omp_nthreads, use_gpu)
    build.brains()
    build.align(affine)
    for method in methods:
        if method in OWN:
            build.own(method, node_inputs(method, prediction_network, correction_network))
        else:
            interface, mem_gb = PEERS[method]
            build.peer(method, interface(), mem_gb)
    compared = [START, *methods]
    measures = build.measure(compared)
    time = None
    if timed_threads:
        time = build.time(timed_threads, prediction_network, measures)
    build.summarize(compared, measures, time)
    return workflow


class _Builder:
    """Adds the parts of the workflow; all lists have one item per pair, in the same order."""

    def __init__(
        self, workflow: Workflow, pairs: list[Pair], omp_nthreads: int, use_gpu: bool
    ) -> None:
        self.workflow, self.pairs = workflow, pairs
        self.threads, self.use_gpu = omp_nthreads, use_gpu
        self.transforms: dict[str, _Source] = {}
        self.images: dict[str, _Source] = {}

    def files(self, field: str) -> list[str]:
        """Return a file of each pair."""
        return [str(getattr(pair, field)) for pair in self.pairs]

    def has(self, field: str) -> bool:
        """Return whether the pairs have an optional file."""
        return getattr(self.pairs[0], field) is not None

    def node(self, name: str, interface: Any, fields: Sequence[str], **resources: Any) -> MapNode:
        """Add a `MapNode`."""
        node = MapNode(interface, iterfield=list(fields), name=name, **resources)
        self.workflow.add_nodes([node])
        return node

    def connect(self, source: _Source, node: Node, field: str) -> None:
        """Connect an output with the input of a node."""
        self.workflow.connect(source.node, source.output, node, field)

    def brains(self) -> None:
        """Extract the brain of every image once."""
        masked = self.has("fixed_mask") and self.has("moving_mask")
        keys = {
            side: [
                (str(getattr(pair, side)), str(getattr(pair, f"{side}_mask")) if masked else "")
                for pair in self.pairs
            ]
            for side in SIDES
        }
        images = list(dict.fromkeys(keys["fixed"] + keys["moving"]))
        fields = ["in_file", "mask"] if masked else ["in_file"]
        # On the CPU: deepbet takes seconds there, and needs no GPU slot.
        brains = self.node("brains", BrainExtraction(), fields, n_procs=self.threads, mem_gb=2.0)
        brains.inputs.in_file = [image for image, _ in images]
        if masked:
            brains.inputs.mask = [mask for _, mask in images]
        for side in SIDES:
            for kind, output in (("brain", "out_file"), ("mask", "out_mask")):
                select = Node(
                    Select(index=[images.index(key) for key in keys[side]]),
                    run_without_submitting=True,
                    name=f"{side}_{kind}s",
                )
                self.workflow.connect(brains, output, select, "inlist")
                self.images[f"{side}_{kind}"] = _Source(select, ("out", _listed))

    def align(self, affine: str) -> None:
        """Estimate the affine of every pair if the pairs have none."""
        if self.has("affine"):
            align = Node(IdentityInterface(fields=["affine_transform"]), name="align")
            align.inputs.affine_transform = self.files("affine")
        elif affine == NONE:
            align = Node(
                Function(function=write_identities, output_names=["affine_transform"]),
                run_without_submitting=True,
                name="align",
            )
            align.inputs.number = len(self.pairs)
        else:
            align = self.node(
                "align",
                AffineRegistration(),
                [f"{side}_image{suffix}" for side in SIDES for suffix in ("", "_mask")],
                n_procs=min(self.threads, 2),
                mem_gb=1.0,
            )
            self.connect_brains(align, masks="_image_mask")
        self.transforms[START] = _Source(align, "affine_transform")

    def connect_brains(self, node: MapNode, masks: str | None = None) -> None:
        """Connect the brains with a node, and their masks with its inputs of a suffix."""
        for side in SIDES:
            self.connect(self.images[f"{side}_brain"], node, f"{side}_image")
            if masks is not None:
                self.connect(self.images[f"{side}_mask"], node, f"{side}{masks}")

    def own(self, method: str, inputs: dict[str, Any]) -> None:
        """Register every pair by a method of this package."""
        fields = [f"{side}_image{suffix}" for side in SIDES for suffix in ("", "_mask")]
        register = self.node(
            f"register_{method}",
            QuicksilverRegistration(**inputs, brain_extraction=NONE, use_gpu=self.use_gpu),
            [*fields, "initial_moving_transform"],
            n_procs=1 if self.use_gpu else self.threads,
            mem_gb=4.0,
        )
        self.connect_brains(register, masks="_image_mask")
        self.connect(self.transforms[START], register, "initial_moving_transform")
        # The composite transform is the same map in more bytes.
        self.transforms[method] = _Source(register, "displacement")

    def peer(self, method: str, interface: Any, mem_gb: float) -> None:
        """Register every pair by an external tool."""
        register = self.node(
            f"register_{method}",
            interface,
            ["fixed_image", "moving_image", "initial_moving_transform"],
            n_procs=self.threads,
            mem_gb=mem_gb,
        )
        self.connect_brains(register)
        self.connect(self.transforms[START], register, "initial_moving_transform")
        self.transforms[method] = _Source(register, "reverse_forward_transforms")

    def measure(self, methods: Sequence[str]) -> Node:
        """Measure every pair and method; return the node that merges the files."""
        merge = Node(Merge(len(methods)), run_without_submitting=True, name="measures")
        for number, method in enumerate(methods, start=1):
            inputs = {
                "transforms": self.transforms[method],
                "fixed_mask": self.images["fixed_mask"],
            }
            if method != START:
                inputs["summary"] = _Source(self.transforms[method].node, "summary")
            if method != REFERENCE and REFERENCE in methods:
                inputs["reference_transforms"] = self.transforms[REFERENCE]
            labels = [f"{side}_labels" for side in SIDES]
            measure = self.node(
                f"measure_{method}",
                MeasureRegistration(),
                [*inputs, *labels],
                n_procs=min(self.threads, 2),
                mem_gb=2.0,
            )
            for field in labels:
                setattr(measure.inputs, field, self.files(field))
            for field, source in inputs.items():
                self.connect(source, measure, field)
            self.workflow.connect(measure, "out_file", merge, f"in{number}")
        return merge

    def time(self, threads: Sequence[int], network: PathLike | None, measures: Node) -> Node:
        """Time the prediction of the first pair; return the node."""
        for side in SIDES:
            conform = Node(ConformToGrid(), mem_gb=0.8, name=f"conform_{side}")
            normalize = Node(NormalizeIntensity(), mem_gb=0.4, name=f"normalize_{side}")
            for kind, field in (("brain", "in_file"), ("mask", "mask")):
                source = self.images[f"{side}_{kind}"]
                self.workflow.connect(source.node, ("out", _first), conform, field)
            self.workflow.connect([
                (conform, normalize, [("out_file", "in_file"), ("out_mask", "mask")]),
            ])  # fmt: skip
        interface = TimePrediction(threads=list(threads), runs=RUNS, use_gpu=self.use_gpu)
        if network is not None:
            interface.inputs.prediction_network = str(network)
        time = Node(interface, n_procs=1 if self.use_gpu else max(threads), mem_gb=3.0, name="time")
        conform_fixed, conform_moving = (
            self.workflow.get_node(f"conform_{side}") for side in SIDES
        )
        align = self.transforms[START]
        for side in SIDES:
            normalize = self.workflow.get_node(f"normalize_{side}")
            self.workflow.connect(normalize, "out_file", time, f"{side}_image")
        brains = {name: self.images[f"moving_{name}"].node for name in ("brain", "mask")}
        self.workflow.connect([
            (brains["brain"], conform_fixed, [(("out", _first), "include_image")]),
            (brains["mask"], conform_fixed, [(("out", _first), "include_mask")]),
            (align.node, conform_fixed, [((align.output, _first), "include_affine")]),
            (align.node, conform_moving, [((align.output, _first), "affine")]),
            (conform_fixed, conform_moving, [("out_file", "reference_image")]),
            # After all other nodes, which would slow it down.
            (measures, time, [("out", "after")]),
        ])  # fmt: skip
        return time

    def summarize(self, methods: Sequence[str], measures: Node, time: Node | None) -> None:
        """Write tables and figures, and connect the outputs."""
        summarize = Node(
            SummarizeEvaluation(
                methods=list(methods),
                pairs=[pair.name for pair in self.pairs],
                label_sets=[pair.label_set for pair in self.pairs],
            ),
            mem_gb=1.0,
            name="summarize",
        )
        fields = ["output_dir", "summary"]
        outputnode = Node(IdentityInterface(fields=fields), name="outputnode")
        self.workflow.connect([
            (measures, summarize, [("out", "measures")]),
            (summarize, outputnode, [(field, field) for field in fields]),
        ])  # fmt: skip
        if time is not None:
            self.workflow.connect(time, "out_file", summarize, "prediction_times")


def write_identities(number: int) -> list[str]:
    """Write the identity as an affine; return its path `number` times.

    Nipype runs this function by itself, without the imports of this module.
    """
    import os

    import numpy as np

    from nipype_quicksilver.spatial.transforms import write_affine

    return [str(write_affine(os.path.abspath("identity.mat"), np.eye(4)))] * number


def _first(items: list[str] | str) -> str:
    """Return the first item of a list."""
    return items[0] if isinstance(items, list) else items


def _listed(items: list[str] | str) -> list[str]:
    """Return a list; Nipype replaces a list of one item by the item."""
    return items if isinstance(items, list) else [items]
