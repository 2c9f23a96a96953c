"""Self-contained HTML pages, rendered from templates and written atomically."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from nipype_quicksilver import __version__
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.spatial.files import PathLike, check_writable, staged


def check_page(path: PathLike) -> Path:
    """Refuse a page that cannot be written, before anything is drawn.

    Parameters
    ----------
    path : path-like
        The page.

    Returns
    -------
    Path
        The same.

    Raises
    ------
    InputError
        If its name does not end in ``.html``, or it cannot be written.
    """
    path = Path(path)
    if path.suffix not in (".html", ".htm"):
        raise InputError(f"{path}: is not the name of a page; let it end in .html")
    check_writable(path)
    return path


def write_page(path: PathLike, template: str, **values: Any) -> Path:
    """Render a template.

    Parameters
    ----------
    path : path-like
        The file to write.
    template : str
        Name of a file in ``reports/templates``.
    **values
        Variables of the template.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    InputError, QuicksilverError
        If the page cannot be written.
    """
    environment = Environment(
        loader=PackageLoader("nipype_quicksilver.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template(template).render(version=__version__, **values)
    with staged(path) as temporary:
        # Names of files may hold bytes that are not UTF-8.
        temporary.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
    return Path(path)
