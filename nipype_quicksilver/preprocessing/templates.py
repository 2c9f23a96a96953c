"""Templates by name: of nilearn, of TemplateFlow, or from a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.options import MNI152

if TYPE_CHECKING:
    from nipype_quicksilver.spatial.files import PathLike

#: Templates that nilearn contains; MNI152 is ICBM 152 nonlinear symmetric 2009a, 1 mm, brain only.
TEMPLATES = (MNI152,)


def is_template(name: PathLike) -> bool:
    """Return whether an argument is the name of a template, not a path.

    Examples
    --------
    >>> is_template("MNI152"), is_template("./MNI152"), is_template("brain.nii.gz")
    (True, False, False)
    """
    return str(name) in TEMPLATES


def template_file(name: PathLike, folder: PathLike) -> Path:
    """Return the file of a template or image.

    Parameters
    ----------
    name : path-like
        One of :data:`TEMPLATES`, which is written into the folder if it is not there yet; any other
        name is a path, which is returned unchanged.
    folder : path-like
        An existing folder.

    Returns
    -------
    Path
        The file of the image.
    """
    if not is_template(name):
        return Path(name)
    path = Path(folder) / f"{name}_brain.nii.gz"
    if not path.exists():
        # These take seconds to import.
        from nilearn.datasets import load_mni152_template

        from nipype_quicksilver.spatial.images import write_image

        template = load_mni152_template(resolution=1)
        data = np.asarray(template.dataobj, dtype=np.float32)
        write_image(path, data, template.affine)
    return path


@dataclass(frozen=True)
class Template:
    """The files of a template.

    Attributes
    ----------
    name : str
        As requested, without specifications except the cohort.
    image : Path
        The image.
    mask : Path or None
        Its brain mask.
    spec : dict
        Specifications in the name.
    """

    name: str
    image: Path
    mask: Path | None = None
    spec: dict[str, Any] = field(default_factory=dict)


def of_templateflow(name: str) -> bool:
    """Return whether a template is one of TemplateFlow, by its name.

    Examples
    --------
    >>> of_templateflow("MNIPediatricAsym:cohort-4"), of_templateflow("MNI152")
    (True, False)
    """
    return not is_template(name) and not name.endswith((".nii", ".nii.gz", ".mgz", ".mgh"))


def find_template(
    name: str, folder: PathLike, *, suffix: str = "T1w", resolution: int = 1
) -> Template:
    """Return the files of a template.

    Of TemplateFlow's resolutions, one in the name is required; `resolution` is preferred, and gives
    way to the first that the template has. A T1w image takes the place of a missing T2w image.

    Parameters
    ----------
    name : str
        One of :data:`TEMPLATES`, the path of an image, or a name in TemplateFlow, with
        specifications after colons (``MNIPediatricAsym:cohort-4``).
    folder : path-like
        Folder in which a template of nilearn is written.
    suffix : str
        Contrast, for TemplateFlow.
    resolution : int
        Index of the resolution in TemplateFlow; in most templates, the voxel size in mm.

    Returns
    -------
    Template
        Its files.

    Raises
    ------
    InputError
        If there is no such template or file, if the name fits several images, or if TemplateFlow
        is required and not installed, or cannot download the template.
    """
    if of_templateflow(name):
        return _from_templateflow(name, suffix, resolution)
    if is_template(name):
        return Template(name, template_file(name, Path(folder).absolute()))
    path = Path(name).absolute()
    if not path.exists():
        raise InputError(f"{name}: no such file; check the path of the template")
    return Template(path.name.split(".")[0], path)


def parse_name(name: str) -> tuple[str, dict[str, Any]]:
    """Split the name of a template from its specifications.

    Examples
    --------
    >>> parse_name("MNIPediatricAsym:cohort-4:res-2")
    ('MNIPediatricAsym', {'cohort': '4', 'res': '2'})
    """
    identifier, *parts = name.split(":")
    pairs = [part.partition("-") for part in parts]
    if not identifier or not all(key and value for key, _, value in pairs):
        raise InputError(f"template '{name}': give NAME or NAME:key-value, such as X:cohort-4")
    return identifier, {key: value for key, _, value in pairs}


#: Entities of files that are variants or parts of a template.
_NOT_OF_THE_TEMPLATE = ("atlas", "density", "desc", "hemi", "label", "space")


def _from_templateflow(name: str, suffix: str, resolution: int) -> Template:
    """Return a template of TemplateFlow, which downloads missing files."""
    identifier, spec = parse_name(name)
    try:
        from templateflow import api
    except ImportError as error:
        raise InputError(
            f"template '{name}': only {', '.join(TEMPLATES)} is included; give a file, "
            "or install templateflow (pip install templateflow)"
        ) from error
    query: dict[str, Any] = {**dict.fromkeys(_NOT_OF_THE_TEMPLATE), "extension": ".nii.gz"}
    query |= {{"res": "resolution"}.get(key, key): value for key, value in spec.items()}
    with _failing_clearly(name):
        if not api.ls(identifier, suffix=suffix, **query):
            suffix = "T1w"
        if "resolution" not in query:
            available = api.TF_LAYOUT.get_resolutions(template=identifier, suffix=suffix, **query)
            nearest = resolution if resolution in available else min(available, default=None)
            query["resolution"] = nearest
        _check_one(name, suffix, api.ls(identifier, suffix=suffix, **query))
        image = _listed(api.get(identifier, suffix=suffix, **query))[0]
        masks = (
            _listed(api.get(identifier, suffix="mask", **{**query, key: "brain"}))
            for key in ("desc", "label")
        )
        mask = next((each[0] for each in masks if each), None)
    cohort = spec.pop("cohort", None)
    full = identifier if cohort is None else f"{identifier}:cohort-{cohort}"
    return Template(full, image, mask, spec)


@contextmanager
def _failing_clearly(name: str) -> Iterator[None]:
    """Report the errors of TemplateFlow, which are those of the network and of its queries."""
    try:
        yield
    except InputError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(
            f"template '{name}': TemplateFlow failed ({type(error).__name__}: "
            f"{str(error).splitlines()[0]}); check the name and the network, or give a file"
        ) from error


def _check_one(name: str, suffix: str, images: list[Path]) -> None:
    """Refuse a name to which no image belongs, or several."""
    if not images:
        raise InputError(f"template '{name}': TemplateFlow has no {suffix} of it; check the name")
    if len(images) > 1:
        first = ", ".join(sorted(Path(image).name for image in images)[:2])
        raise InputError(
            f"template '{name}': TemplateFlow has {len(images)} images of it ({first}, ...); add "
            f"what distinguishes them, such as {name}:cohort-1"
        )


def _listed(paths: Any) -> list[Path]:
    return [Path(path) for path in (paths if isinstance(paths, list) else [paths])]
