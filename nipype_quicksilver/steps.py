"""Options of single steps, and of every command, each declared once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from nipype_quicksilver.declarations import Kind, Option
from nipype_quicksilver.lddmm.settings import SCHEDULES
from nipype_quicksilver.options import AUTO, MASK, NONE, OPTIONS, SCAN_FILES, SIDES
from nipype_quicksilver.tools import AFFINE_TOOLS, BRAIN_EXTRACTION_TOOLS, listed

#: Tool of a brain extraction.
BRAIN_EXTRACTION = replace(
    OPTIONS["brain_extraction"],
    choices=tuple(name for name in OPTIONS["brain_extraction"].choices if name != NONE),
    help="tool that extracts the brain: deepbet, or an external tool "
    f"({listed(BRAIN_EXTRACTION_TOOLS)})",
)
#: Tool of an affine registration.
AFFINE_ESTIMATION = replace(
    OPTIONS["affine"],
    kind=Kind.NAME,
    choices=tuple(name for name in OPTIONS["affine"].choices if name != NONE),
    help=f"tool that estimates the affine: simpleitk, or an external tool ({listed(AFFINE_TOOLS)})",
)
#: Corrections of a prediction.
CORRECTIONS = replace(
    OPTIONS["corrections"],
    default=1,
    least=0,
    help="number of corrections of the prediction; 0 is the prediction alone",
)
#: Where networks and shooting are computed; no option of a registration, whose result it keeps.
DEVICE = Option(
    "device for networks and shooting; auto: a GPU if there is one",
    default=AUTO,
    kind=Kind.DEVICE,
    choices=(AUTO, "cpu", "cuda", "cuda:N"),
    name="device",
)
#: The schedule of an optimisation as a single step.
SCHEDULE = Option(
    "stages of the optimisation; full: from coarse to fine; refine: a few fine iterations from a "
    "predicted momentum",
    default=next(iter(SCHEDULES)),
    choices=tuple(SCHEDULES),
    name="schedule",
)
#: Seed of a step; a registration uses it for samples only.
SEED = replace(OPTIONS["seed"], help="seed of the random numbers")

#: Files of each of two brains, whose background is zero.
BRAIN_FILES: Mapping[str, Option] = MappingProxyType(
    {name: option for name, option in SCAN_FILES.items() if not name.endswith("labels")}
    | {
        f"{side}_mask": replace(
            SCAN_FILES[f"{side}_mask"], help=MASK.format(side=side, default="what is not zero")
        )
        for side in SIDES
    }
)
