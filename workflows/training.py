"""Training of networks as in the 2017 paper."""

from nipype.interfaces.utility import Function, IdentityInterface
from nipype.pipeline.engine import MapNode, Node, Workflow

from nipype_quicksilver import __version__
from nipype_quicksilver.data import SHIPPED, shipped_recipe
from nipype_quicksilver.interfaces import (
    BuildMomentumDataset,
    ConformToGrid,
    NormalizeIntensity,
    OptimizeMomentum,
    TrainNetwork,
)
from nipype_quicksilver.options import ROLES
from nipype_quicksilver.workflows.description import described_workflow

#: Files of the recipes in the package, by name.
RECIPES = {name: str(shipped_recipe(name)) for name in SHIPPED}

_DESCRIPTION = f"""\
Networks that predict the initial momentum of a registration were trained as described by
[@quicksilver], on momenta optimised with *nipype-quicksilver* {__version__}.
"""


def sample_pairs(images: list[str], number: int, seed: int) -> tuple[list[str], list[str]]:
    """Draw pairs of images at random, without repetition.

    Nipype runs the source of this function, without the imports of this module.

    Parameters
    ----------
    images : list of str
        Paths of the images.
    number : int
        Number of pairs; if there are fewer, all are returned.
    seed : int
        Seed of the random numbers.

    Returns
    -------
    fixed, moving : list of str
        Paths of the fixed and of the moving image of each pair.

    Raises
    ------
    ValueError
        If there are fewer than two images.

    Examples
    --------
    >>> sample_pairs(["a", "b"], 2, 0)
    (['b', 'a'], ['a', 'b'])
    """
    import random

    count = len(images)
    if count < 2:
        raise ValueError(f"a pair needs two images, but there are {count}")
    indices = range(count * (count - 1))
    chosen = random.Random(seed).sample(indices, min(number, len(indices)))
    # Every index stands for a pair of two different images.
    pairs = [(k // (count - 1), k % (count - 1)) for k in chosen]
    pairs = [(i, j + (j >= i)) for i, j in pairs]
    return [images[i] for i, _ in pairs], [images[j] for _, j in pairs]


def init_training_wf(
    *,
    omp_nthreads: int,
    n_pairs: int = 100,
    recipe: str = RECIPES["patch"],
    iterations: list[int] | None = None,
    use_gpu: bool = False,
    seed: int = 0,
    name: str = "training_wf",
) -> Workflow:
    """Build a workflow that trains a prediction and a correction network on optimised momenta.

    The momenta of the pairs are optimised by parallel nodes.

    Workflow Graph
        ::

            inputnode -> conform -> normalize -> sample_pairs -> optimize (a node for each pair)
                                                     |               |
                                                     +-> prediction_dataset -> train_prediction
                                                     |                               |
                                                     +-> correction_dataset  <-------+
                                                                 |
                                                          train_correction

    Parameters
    ----------
    omp_nthreads : int
        Number of threads of each node that can use several.
    n_pairs : int
        Number of pairs of images, drawn at random; if there are fewer, all are used.
    recipe : str
        File of the recipe of both networks, whose architecture is ``patch``.
    iterations : list of int, optional
        Iterations of each stage of the optimisation, coarse to fine. Default: those of the
        schedule.
    use_gpu : bool
        Optimise, predict and train on a GPU. Since Nipype counts `n_procs` GPU slots for such a
        node, it gets one thread.
    seed : int
        Seed of the choice of pairs and of the training.
    name : str
        Name of the workflow.

    Returns
    -------
    Workflow
        With `inputnode` and `outputnode`.

    Inputs
    ------
    images
        Brains without skull, aligned by their headers to `template` (list).
    template
        Brain whose grid is the working grid of all images: 1 mm, RAS, dimensions that are multiples
        of 8, as written by `ConformToGrid`.

    Outputs
    -------
    prediction, correction
        Checkpoints of the two networks.
    prediction_card, correction_card
        Their cards, which have to be next to them.
    prediction_curve, correction_curve
        Plots of their losses and validations.
    dataset
        Folder of the pairs and their momenta.

    Examples
    --------
    >>> wf = init_training_wf(omp_nthreads=2, n_pairs=10)
    >>> wf.get_node("sample_pairs").inputs.number
    10
    >>> wf.get_node("train_correction").inputs.role
    'correction'
    """
    workflow = described_workflow(name, _DESCRIPTION)
    n_procs = 1 if use_gpu else omp_nthreads
    inputnode = Node(IdentityInterface(fields=["images", "template"]), name="inputnode")
    outputnode = Node(
        IdentityInterface(
            fields=[f"{role}{kind}" for kind in ("", "_card", "_curve") for role in ROLES]
            + ["dataset"]
        ),
        name="outputnode",
    )
    conform = MapNode(
        ConformToGrid(), iterfield=["in_file"], n_procs=omp_nthreads, mem_gb=0.8, name="conform"
    )
    normalize = MapNode(
        NormalizeIntensity(), iterfield=["in_file", "mask"], mem_gb=0.4, name="normalize"
    )
    pairs = Node(
        Function(["images", "number", "seed"], ["fixed_images", "moving_images"], sample_pairs),
        run_without_submitting=True,
        name="sample_pairs",
    )
    pairs.inputs.number, pairs.inputs.seed = n_pairs, seed
    optimize = MapNode(
        OptimizeMomentum(use_gpu=use_gpu),
        iterfield=["fixed_image", "moving_image"],
        n_procs=n_procs,
        mem_gb=3.0,
        name="optimize",
    )
    if iterations is not None:
        optimize.inputs.iterations = iterations
    workflow.connect([
        (inputnode, conform, [("images", "in_file"), ("template", "reference_image")]),
        (conform, normalize, [("out_file", "in_file"), ("out_mask", "mask")]),
        (normalize, pairs, [("out_file", "images")]),
        (pairs, optimize, [("fixed_images", "fixed_image"), ("moving_images", "moving_image")]),
    ])  # fmt: skip
    for role in ROLES:
        _connect_network(workflow, role, recipe, seed, n_procs, use_gpu)
        train = workflow.get_node(f"train_{role}")
        workflow.connect([
            (train, outputnode, [
                ("checkpoint", role),
                ("card", f"{role}_card"),
                ("curve", f"{role}_curve"),
            ]),
        ])  # fmt: skip
    workflow.connect([
        (workflow.get_node("train_prediction"), workflow.get_node("correction_dataset"), [
            ("checkpoint", "prediction"),
        ]),
        (workflow.get_node("prediction_dataset"), outputnode, [("dataset", "dataset")]),
    ])  # fmt: skip
    return workflow


def _connect_network(
    workflow: Workflow, role: str, recipe: str, seed: int, n_procs: int, use_gpu: bool
) -> None:
    """Add the nodes that build the data set of a network and train it."""
    dataset = Node(
        BuildMomentumDataset(use_gpu=use_gpu), n_procs=n_procs, mem_gb=2.0, name=f"{role}_dataset"
    )
    train = Node(
        TrainNetwork(recipe=recipe, role=role, random_seed=seed, use_gpu=use_gpu),
        n_procs=n_procs,
        mem_gb=4.0,
        name=f"train_{role}",
    )
    workflow.connect([
        (workflow.get_node("sample_pairs"), dataset, [
            ("fixed_images", "fixed_images"),
            ("moving_images", "moving_images"),
        ]),
        (workflow.get_node("optimize"), dataset, [("momentum", "momenta")]),
        (dataset, train, [("dataset", "momenta")]),
    ])  # fmt: skip
    # Nipype would remove the card, which is not connected to the nodes that use the weights.
    train.config = {"execution": {"remove_unnecessary_outputs": "false"}}
