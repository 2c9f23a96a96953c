"""Modules that have moved: their earlier names work, with a warning, for one more version."""

from __future__ import annotations

import importlib
import warnings
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_PACKAGE = "nipype_quicksilver"
#: Modules that the documentation of version 0.1 named, and where they are since version 0.2.
MOVED = {
    "networks.processes": "training.distributed",
    "networks.regression": "training.on_momenta",
    "networks.training": "training.end_to_end",
    "registration.learning": "training.train",
    "registration.recipes": "training.recipes",
    "registration.training_files": "training.data",
    "registration.training_loop": "training.loop",
    "spatial.evaluation": "spatial.measures",
}


class MovedModules(MetaPathFinder, Loader):
    """Finds a module that has moved; asked after all other finders."""

    def find_spec(self, fullname: str, *_: Any) -> ModuleSpec | None:
        """Return the specification of a module that has moved; None for others."""
        package, name = fullname.split(".", maxsplit=1) if "." in fullname else (fullname, "")
        return ModuleSpec(fullname, self) if package == _PACKAGE and name in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module under its present name."""
        present = f"{_PACKAGE}.{MOVED[spec.name.partition('.')[2]]}"
        warnings.warn(
            f"{spec.name} is called {present} since version 0.2; it goes with version 0.3",
            DeprecationWarning,
            stacklevel=2,
        )
        return _Alias(importlib.import_module(present), spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: the module was executed under its present name."""


class _Alias(ModuleType):
    """A module with the content of another one."""

    def __init__(self, present: ModuleType, name: str) -> None:
        super().__init__(name, present.__doc__)
        self._present = present

    def __getattr__(self, name: str) -> Any:
        return getattr(self._present, name)
