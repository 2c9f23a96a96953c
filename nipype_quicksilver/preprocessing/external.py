"""Brain extraction and affine registration by external tools, on images in memory.

Tools are started without a shell, in a temporary folder with fixed file names: file names of a user
are never part of a command line.
"""

from __future__ import annotations

import logging
import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from nibabel.nifti1 import Nifti1Image

from nipype_quicksilver.errors import InputError, QuicksilverError
from nipype_quicksilver.execution.leftovers import temporary_folder
from nipype_quicksilver.spatial.brains import mask_on_image
from nipype_quicksilver.spatial.files import PathLike
from nipype_quicksilver.spatial.images import read_mask, write_image
from nipype_quicksilver.spatial.interchange import read_matrix
from nipype_quicksilver.tools import (
    AFFINE_TOOLS,
    BRAIN_EXTRACTION_TOOLS,
    DEEPBET,
    SIMPLEITK,
    ExternalTool,
    check_dof,
    check_installed,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

LAST_LINES = 5  # lines of the output of a tool that failed, in the error message

_logger = logging.getLogger(__name__)


def extract_mask(
    name: str, image: Nifti1Image, *, num_threads: int = 1, log_dir: PathLike | None = None
) -> np.ndarray:
    """Extract the brain from a head by an external tool.

    Parameters
    ----------
    name : str
        A key of `tools.BRAIN_EXTRACTION_TOOLS`.
    image : Nifti1Image
        (X, Y, Z), a head.
    num_threads : int
        Threads, for tools that can use several.
    log_dir : path-like, optional
        Folder for the log of a tool that fails; default: a temporary folder.

    Returns
    -------
    ndarray
        (X, Y, Z), 0 or 1, on the grid of the image.

    Raises
    ------
    InputError
        If the tool is not installed.
    QuicksilverError
        If it fails.
    """
    with _run(name, BRAIN_EXTRACTION_TOOLS, DEEPBET, num_threads, log_dir) as run:
        run.write("head.nii.gz", image)
        run(_EXTRACTIONS[name](num_threads))
        # AFNI writes the brain, with other intensities, instead of a mask.
        files = (run.folder / "brain_mask.nii.gz", run.folder / "brain.nii.gz")
        with run.result():
            mask = read_mask(next((file for file in files if file.exists()), files[0]))
            return np.asanyarray(mask_on_image(mask, image))


def align_brains(
    name: str,
    fixed: Nifti1Image,
    moving: Nifti1Image,
    *,
    fixed_mask: Nifti1Image | None = None,
    moving_mask: Nifti1Image | None = None,
    dof: int = 12,
    num_threads: int = 1,
    log_dir: PathLike | None = None,
) -> np.ndarray:
    """Estimate the affine between two brains by an external tool.

    Parameters
    ----------
    name : str
        A key of `tools.AFFINE_TOOLS`.
    fixed, moving : Nifti1Image
        (X, Y, Z), brains without skull, or with masks.
    fixed_mask, moving_mask : Nifti1Image, optional
        (X, Y, Z), where the images are compared.
    dof : int
        Degrees of freedom.
    num_threads : int
        Threads, for tools that can use several.
    log_dir : path-like, optional
        Folder for the log of a tool that fails; default: a temporary folder.

    Returns
    -------
    ndarray
        4x4, maps fixed to moving points, RAS mm.

    Raises
    ------
    InputError
        If the tool is not installed, or does not estimate these degrees of freedom.
    QuicksilverError
        If it fails.
    """
    check_dof(name, dof)
    with _run(name, AFFINE_TOOLS, SIMPLEITK, num_threads, log_dir) as run:
        run.write("fixed.nii.gz", fixed)
        run.write("moving.nii.gz", moving)
        masks = [mask is not None for mask in (fixed_mask, moving_mask)]
        for file, mask in (("fixed_mask.nii.gz", fixed_mask), ("moving_mask.nii.gz", moving_mask)):
            if mask is not None:
                run.write(file, mask)
        command = _ALIGNMENTS[name](dof, num_threads, *masks)
        run(command.arguments)
        images = (run.folder / "fixed.nii.gz", run.folder / "moving.nii.gz")
        with run.result():
            return read_matrix(run.folder / command.output, command.form, *images)


@dataclass(frozen=True)
class _Run:
    """A tool in its temporary folder; a call with arguments runs it there."""

    name: str
    command: tuple[str, ...]
    folder: Path
    num_threads: int
    log_dir: PathLike | None

    def write(self, file: str, image: Nifti1Image) -> None:
        """Write an image into the folder."""
        write_image(self.folder / file, np.asanyarray(image.dataobj), image.affine)

    def __call__(self, arguments: Sequence[str]) -> None:
        environment = {**os.environ, "FSLOUTPUTTYPE": "NIFTI_GZ"}
        # Of ANTs, and of tools that use OpenMP; others have an argument.
        threads = ("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "OMP_NUM_THREADS")
        environment |= dict.fromkeys(threads, str(self.num_threads))
        words = [*self.command, *arguments]
        try:
            process = subprocess.run(
                words,
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                check=False,
            )
        except OSError as error:
            raise QuicksilverError(
                f"{self.name}: {words[0]} cannot be started ({error.strerror}); install it again"
            ) from error
        printed = process.stdout + process.stderr
        for line in printed.splitlines():
            _logger.debug("%s: %s", self.name, line)
        if process.returncode != 0:
            report = f"Command: {' '.join(words)}\nExit code: {process.returncode}\n\n{printed}"
            raise _failure(self.name, report, printed, self.log_dir)

    @contextmanager
    def result(self) -> Iterator[None]:
        """Read a result: where that is impossible, it is an error of the tool."""
        try:
            yield
        except InputError as error:
            message = str(error).replace(f"{self.folder}/", "")  # unknown to the user
            raise QuicksilverError(
                f"{self.name} failed: its result cannot be read: {message}"
            ) from error


@contextmanager
def _run(
    name: str,
    tools: dict[str, ExternalTool],
    default: str,
    num_threads: int,
    log_dir: PathLike | None,
) -> Iterator[_Run]:
    """Yield a tool in a temporary folder."""
    check_installed(name, tools, default)
    command = tools[name].command()
    assert command is not None
    with temporary_folder() as folder:
        yield _Run(name, command, folder, num_threads, log_dir)


def _failure(name: str, report: str, printed: str, log_dir: PathLike | None) -> QuicksilverError:
    """Write the log of a tool that failed; return the error with the last lines of its output."""
    folder = Path(log_dir or tempfile.mkdtemp(prefix="quicksilver-"))
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{name}.log"
    log.write_text(report, encoding="utf-8")
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    shown = " / ".join(lines[-LAST_LINES:]) or "no output"
    return QuicksilverError(f"{name} failed: {shown} (the whole log is {log})")


# Arguments of the brain extraction tools; they read ``head.nii.gz``.


def _bet(num_threads: int) -> list[str]:
    return ["head.nii.gz", "brain.nii.gz", "-m", "-R"]


def _synthstrip(num_threads: int) -> list[str]:
    files = ["-i", "head.nii.gz", "-o", "brain.nii.gz", "-m", "brain_mask.nii.gz"]
    return [*files, "-t", str(num_threads)]


def _skull_strip(num_threads: int) -> list[str]:
    return ["-input", "head.nii.gz", "-prefix", "brain.nii.gz"]


_EXTRACTIONS: dict[str, Callable[[int], list[str]]] = {
    "bet": _bet,
    "synthstrip": _synthstrip,
    "afni": _skull_strip,
}

# Affine registration tools; they read ``fixed.nii.gz``, ``moving.nii.gz``, and the masks if given.


@dataclass(frozen=True)
class _AffineCommand:
    """Arguments of a tool, the file of its affine, and its format."""

    arguments: list[str]
    output: str
    form: str


def _greedy(dof: int, num_threads: int, fixed_mask: bool, moving_mask: bool) -> _AffineCommand:
    words = ["-d", "3", "-a", "-dof", str(dof), "-m", "NCC", "4x4x4", "-n", "100x50x10"]
    words += ["-ia-image-centers", "-i", "fixed.nii.gz", "moving.nii.gz", "-o", "affine.mat"]
    words += ["-threads", str(num_threads)]
    words += ["-gm", "fixed_mask.nii.gz"] if fixed_mask else []
    words += ["-mm", "moving_mask.nii.gz"] if moving_mask else []
    return _AffineCommand(words, "affine.mat", "ras")


def _ants(dof: int, num_threads: int, fixed_mask: bool, moving_mask: bool) -> _AffineCommand:
    kind = {6: "Rigid", 7: "Similarity", 12: "Affine"}[dof]
    words = ["--dimensionality", "3", "--float", "1", "--output", "affine"]
    words += ["--initial-moving-transform", "[fixed.nii.gz,moving.nii.gz,1]"]
    words += ["--collapse-output-transforms", "1", "--winsorize-image-intensities", "[0.0,1.0]"]
    words += ["--transform", f"{kind}[0.1]", "--use-histogram-matching", "1"]
    words += ["--metric", "MI[fixed.nii.gz,moving.nii.gz,1,32,Regular,0.25]"]
    words += ["--convergence", "[1000x500x250,1e-06,10]"]
    words += ["--shrink-factors", "8x4x2", "--smoothing-sigmas", "3x2x1vox"]
    if fixed_mask or moving_mask:
        masks = ["fixed_mask.nii.gz" if fixed_mask else "NULL"]
        masks += ["moving_mask.nii.gz" if moving_mask else "NULL"]
        words += ["--masks", f"[{','.join(masks)}]"]
    return _AffineCommand(words, "affine0GenericAffine.mat", "itk")


def _aladin(dof: int, num_threads: int, fixed_mask: bool, moving_mask: bool) -> _AffineCommand:
    words = ["-ref", "fixed.nii.gz", "-flo", "moving.nii.gz", "-aff", "affine.txt"]
    words += ["-res", "aligned.nii.gz", "-omp", str(num_threads)]
    words += ["-rigOnly"] if dof == 6 else []
    words += ["-rmask", "fixed_mask.nii.gz"] if fixed_mask else []
    words += ["-fmask", "moving_mask.nii.gz"] if moving_mask else []
    return _AffineCommand(words, "affine.txt", "ras")


def _flirt(dof: int, num_threads: int, fixed_mask: bool, moving_mask: bool) -> _AffineCommand:
    words = ["-in", "moving.nii.gz", "-ref", "fixed.nii.gz", "-omat", "affine.mat"]
    words += ["-out", "aligned.nii.gz", "-dof", str(dof), "-cost", "corratio"]
    for axis in "xyz":
        words += [f"-searchr{axis}", "-60", "60"]
    words += ["-refweight", "fixed_mask.nii.gz"] if fixed_mask else []
    words += ["-inweight", "moving_mask.nii.gz"] if moving_mask else []
    return _AffineCommand(words, "affine.mat", "fsl")


_ALIGNMENTS: dict[str, Callable[[int, int, bool, bool], _AffineCommand]] = {
    "greedy": _greedy,
    "ants": _ants,
    "reg_aladin": _aladin,
    "flirt": _flirt,
}
