"""Fast predictive registration of brain images.

Importing the package is fast: numerical libraries are imported at their first use.

Examples
--------
>>> import nipype_quicksilver
>>> issubclass(nipype_quicksilver.InputError, ValueError)
True
"""

import importlib
import sys
from typing import Any

from nipype_quicksilver.moved import MovedModules

__version__ = "0.2.0"
__all__ = ["InputError", "Registration", "__version__", "register"]

_HOME_OF = {
    "InputError": "nipype_quicksilver.errors",
    "Registration": "nipype_quicksilver.registration",
    "register": "nipype_quicksilver.registration",
}

sys.meta_path.append(MovedModules())


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
