"""Files that the package ships: trained networks, and what tissues look like."""

from importlib.resources import files
from pathlib import Path

#: The recipes that come with the package.
SHIPPED = ("prediction", "probabilistic", "correction", "correction-fine", "patch")


def shipped_recipe(name: str) -> Path:
    """Return the file of a recipe that comes with the package.

    Examples
    --------
    >>> shipped_recipe("patch").name
    'recipe_patch.json'
    """
    return Path(str(files("nipype_quicksilver.data") / f"recipe_{name}.json"))
