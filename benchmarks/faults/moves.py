"""Runs that are ended while they save, and two runs into one folder: nothing is lost or mixed."""

import hashlib
import itertools
import json
import random
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from rich.table import Table

from benchmarks.faults.injection import SIGNALS, end_after, end_at_step, start, wait
from benchmarks.tables import show
from nipype_quicksilver.cli.main import main
from nipype_quicksilver.registration import Registration, register
from nipype_quicksilver.spatial.folders import complete_moves
from nipype_quicksilver.spatial.images import write_image

#: Interruptions at random moments while files are saved, and of whole commands; races.
SAVES, COMMANDS, RACES = 80, 40, 100
_OURS = "uncertainty.nii.gz"  # a file of another program under a name that runs may write
_Saved = dict[str, str]


@dataclass
class Outcome:
    """What was seen.

    Attributes
    ----------
    runs : int
        Runs that were ended, or that met another run.
    seen : Counter
        In how many of them the folder had the old files, the new ones, or was between.
    faults : list of str
        What must not happen: files lost or mixed, left over, or other bytes in the end.
    """

    runs: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


def measure(work: Path, runs: int, threads: int) -> dict[str, Any]:
    """End runs at every step and at random moments, race them, and print what was left."""
    folder = work / "faults"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    images = _write_images(folder)
    begin = time.monotonic()
    warnings.simplefilter("ignore")  # that a file of another program is kept
    outcomes = {"commands, at random": _end_commands(folder, images, COMMANDS)}
    two = _Two(folder, [_registration(images, with_labels) for with_labels in (True, False)])
    for name, part in {
        "saving, at every step": two.end_at_every_step,
        "saving, at random": lambda: two.end_at_random(SAVES),
        "two runs at once": lambda: two.race(RACES),
    }.items():
        print(f"{time.monotonic() - begin:.0f} s: {name}", flush=True)
        outcomes[name] = part()
    rows = {
        name: [result.runs, *(result.seen[kind] for kind in _KINDS), len(result.faults)]
        for name, result in outcomes.items()
    }
    table = Table("", "runs", *_KINDS, "faults", title="Runs that were ended, or met another one")
    for name, row in rows.items():
        table.add_row(name, *map(str, row))
    show(table)
    faults = [fault for outcome in outcomes.values() for fault in outcome.faults]
    print("\n".join(faults[:20]))
    return {
        "columns": ["runs", *_KINDS, "faults"],
        **rows,
        "faults": faults,
        "seconds": round(time.monotonic() - begin),
    }


_KINDS = ("old files", "new files", "between, then new")


class _Two:
    """Two registrations that are saved into one folder, after and beside each other.

    The first has warped labels, which the second removes.
    """

    def __init__(self, work: Path, registrations: list[Registration]) -> None:
        self.folder = work / "out"
        self.registrations = registrations
        self.first = work / "first"
        self.expected = []
        for registration in reversed(registrations):
            shutil.rmtree(self.first, ignore_errors=True)
            registration.save(self.first)
            self.expected.insert(0, _saved(self.first))
        for name in (_OURS, "notes.txt"):
            (self.first / name).write_text("not ours")
        self.outcome = Outcome()

    def end_at_every_step(self) -> Outcome:
        """End savings before each of their operations on files, by each signal."""
        self.outcome = Outcome()
        for number, fresh in [*((number, False) for number in SIGNALS), (signal.SIGKILL, True)]:
            for step in itertools.count():
                self._prepare(fresh)

                def save(step: int = step, number: int = number) -> None:
                    end_at_step(step, number, self.folder)
                    self.registrations[1].save(self.folder)

                code = wait(start(save))
                self._check(f"{signal.Signals(number).name} at step {step}", fresh)
                if code == 0:  # the saving has fewer steps
                    self.outcome.runs -= 1
                    break
        return self.outcome

    def end_at_random(self, number: int) -> Outcome:
        """End savings at random moments."""
        self.outcome, random_ = Outcome(), random.Random(1)
        begin = time.monotonic()
        wait(start(lambda: self._save(1)))
        seconds = time.monotonic() - begin
        for index in range(number):
            fresh = index % 4 == 0
            self._prepare(fresh)
            moment = random_.uniform(0, 1.2 * seconds)
            end_after(start(lambda: self._save(1)), moment, SIGNALS[index % 3])
            self._check(f"random {index}, {moment:.4f} s", fresh)
        return self.outcome

    def race(self, number: int) -> Outcome:
        """Save both at once; in every fifth race, one is killed."""
        self.outcome, random_ = Outcome(), random.Random(2)
        for index in range(number):
            self._prepare(fresh=index % 2 == 0)
            children = [start(lambda: self._save(0)), start(lambda: self._save(1))]
            if index % 5 == 0:
                end_after(children.pop(), random_.uniform(0, 0.1), signal.SIGKILL)
            codes = [wait(child) for child in children]
            self.outcome.runs += 1
            if any(codes):
                self.outcome.faults.append(f"race {index}: exit codes {codes}")
            complete_moves(self.folder)
            self._expect(f"race {index}", self.expected)
            self._end(f"race {index}", fresh=index % 2 == 0)
        return self.outcome

    def _save(self, number: int) -> None:
        self.registrations[number].save(self.folder)

    def _prepare(self, fresh: bool) -> None:
        """Begin with the first registration and foreign files, or with no folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if not fresh:
            shutil.copytree(self.first, self.folder)

    def _check(self, what: str, fresh: bool) -> None:
        """Look at what an ended run left; then run again, and compare with a quiet run."""
        self.outcome.runs += 1
        old: _Saved = {} if fresh else self.expected[0]
        states = [old, self.expected[1]]
        now = _saved(self.folder)
        if now in states:
            self.outcome.seen[_KINDS[states.index(now)]] += 1
        else:
            self.outcome.seen[_KINDS[2]] += 1
            complete_moves(self.folder)
            self._expect(what, states[1:])
        self._end(what, fresh)

    def _end(self, what: str, fresh: bool) -> None:
        self._save(1)
        self._expect(f"{what}, and again", [self.expected[1]])
        left = [path.name for path in self.folder.iterdir() if path.name.startswith(".")]
        if left:
            self.outcome.faults.append(f"{what}: left {left}")
        for name in () if fresh else (_OURS, "notes.txt"):
            path = self.folder / name
            if not path.exists() or path.read_text() != "not ours":
                self.outcome.faults.append(f"{what}: {name} was changed")

    def _expect(self, what: str, allowed: list[_Saved]) -> None:
        if _saved(self.folder) not in allowed:
            self.outcome.faults.append(f"{what}: files are lost or mixed")


def _end_commands(folder: Path, images: dict[str, Path], number: int) -> Outcome:
    """End whole commands at random moments, and repeat them; TMPDIR has to be clean as well."""
    outcome, random_ = Outcome(), random.Random(3)
    out, log = folder / "command", folder / "log"
    with _temporary(folder / "tmp") as temporary:
        begin = time.monotonic()
        for _ in range(2):  # the second one with warm caches
            begin = time.monotonic()
            wait(start(_command(images, out), log))
        seconds, new = time.monotonic() - begin, _saved(out)
        for index in range(number):
            shutil.rmtree(out, ignore_errors=True)
            log.unlink(missing_ok=True)
            ending = SIGNALS[index % 3]
            moment = random_.uniform(0, 1.1 * seconds)
            code = end_after(start(_command(images, out), log), moment, ending)
            what = f"command {index}, {signal.Signals(ending).name} after {moment:.3f} s"
            outcome.runs += 1
            now = _saved(out)
            outcome.seen[_KINDS[[{}, new].index(now) if now in ({}, new) else 2]] += 1
            left = list(temporary.iterdir())
            if ending != signal.SIGKILL and (left or code not in (0, 130, 143)):
                outcome.faults.append(f"{what}: code {code}, TMPDIR {left}")
            printed = log.read_text()  # nothing if the command had not begun yet
            if ending != signal.SIGKILL and printed.count("\n") > 1:
                outcome.faults.append(f"{what}: {printed!r}")
            if index % 6 == 2:  # a whole command takes long
                code = wait(start(_command(images, out), log))
                if code or _saved(out) != new or list(temporary.iterdir()):
                    outcome.faults.append(f"{what}, and again: code {code}, or other files")
    return outcome


@contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    """Let this process and those that it forks use a folder for temporary files."""
    folder.mkdir()
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield folder
    finally:
        tempfile.tempdir = before


def _command(images: dict[str, Path], out: Path) -> Callable[[], int]:
    words = ["register", "--output-dir", str(out), "--quiet", "--num-threads", "1"]
    words += ["--method", "optimize", "--iterations", "2x1x0x0", "--affine", "none"]
    words += ["--brain-extraction", "none"]
    for name, path in images.items():
        words += [f"--{name.replace('_', '-')}", str(path)]

    def run() -> int:
        sys.argv = ["quicksilver", *words]
        return main()

    return run


def _registration(images: dict[str, Path], with_labels: bool) -> Registration:
    chosen = {name: path for name, path in images.items() if with_labels or "labels" not in name}
    fixed, moving = chosen.pop("fixed"), chosen.pop("moving")
    options: Any = {"method": "optimize", "iterations": (2, 1, 0, 0), "affine": "none"}
    registration = register(
        fixed, moving, **chosen, **options, brain_extraction="none", device="cpu"
    )
    return replace(registration, summary=replace(registration.summary, command=str(with_labels)))


def _write_images(folder: Path) -> dict[str, Path]:
    """Write two balls on coarse grids, and labels of the second one."""
    shape, affine = (12, 14, 10), np.diag([2.0, 2.0, 2.0, 1.0])
    index = np.moveaxis(np.indices(shape), 0, -1) / (np.array(shape) - 1)
    paths = {}
    for name, centre in (("fixed", (0.5, 0.5, 0.5)), ("moving", (0.55, 0.5, 0.45))):
        distance = np.linalg.norm(index - centre, axis=-1)
        data = np.where(distance < 0.4, 100 - 50 * distance, 0).astype(np.float32)
        paths[name] = write_image(folder / f"{name}.nii.gz", data, affine)
    labels = (np.asanyarray(nib.load(paths["moving"]).dataobj) > 85).astype(np.uint8)
    paths["moving_labels"] = write_image(folder / "labels.nii.gz", labels, affine)
    return paths


def _saved(folder: Path) -> _Saved:
    """Return the hashes of the files of a registration by name; times of writing are left out."""
    if not folder.exists():
        return {}
    hashes = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name in ("notes.txt",):
            continue
        content = path.read_bytes()
        if content == b"not ours":
            continue
        if path.name == "summary.json":
            summary = json.loads(content)
            for name in ("seconds", "cpu_seconds", "started"):
                del summary[name]
            content = json.dumps(summary).encode()
        elif path.suffix == ".h5":  # HDF5 adds the time of writing
            transform = sitk.ReadTransform(str(path))
            numbers = (transform.GetParameters(), transform.GetFixedParameters())
            content = b"".join(np.array(values).tobytes() for values in numbers)
        hashes[path.name] = hashlib.sha256(content).hexdigest()
    return hashes
