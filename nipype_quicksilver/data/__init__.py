"""Files that the package ships: trained networks, and what tissues look like."""

from importlib.resources import files
from pathlib import Path

#: The recipes that come with the package.
SHIPPED = ("prediction", "probabilistic", "correction", "correction-fine", "patch")


#: The networks that come with the package; the probabilistic one predicts where samples are asked
#: for.
PREDICTION, CORRECTION = "prediction.safetensors", "correction.safetensors"
PROBABILISTIC = "probabilistic.safetensors"


def data_file(*parts: str) -> Path:
    """Return the path of a file that comes with the package.

    Examples
    --------
    >>> data_file("references.json").name
    'references.json'
    """
    return Path(str(files("nipype_quicksilver.data").joinpath(*parts)))


def shipped_network(name: str) -> Path:
    """Return the path of a checkpoint in the package, such as :data:`PREDICTION`."""
    return data_file("networks", name)


def shipped_networks() -> tuple[Path, Path]:
    """Return the checkpoints of the prediction and the correction network in the package."""
    return shipped_network(PREDICTION), shipped_network(CORRECTION)


def shipped_recipe(name: str) -> Path:
    """Return the file of a recipe that comes with the package.

    Examples
    --------
    >>> shipped_recipe("patch").name
    'recipe_patch.json'
    """
    return data_file(f"recipe_{name}.json")
