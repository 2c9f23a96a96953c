"""The result of a registration, in memory and on disk."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from nibabel.nifti1 import Nifti1Image

from nipype_quicksilver.registration.summary import RegistrationSummary, with_total
from nipype_quicksilver.spatial.files import PathLike, check_apart, write_json
from nipype_quicksilver.spatial.folders import staged_folder
from nipype_quicksilver.spatial.grids import Grid
from nipype_quicksilver.spatial.images import write_image
from nipype_quicksilver.spatial.momentum import Momentum, write_momentum
from nipype_quicksilver.spatial.records import as_json
from nipype_quicksilver.spatial.transforms import write_composite, write_displacement

#: Files of a registration, by the name of the attribute they hold.
FILES = {
    "warped": "warped.nii.gz",
    "inverse_warped": "inverse_warped.nii.gz",
    "warped_labels": "warped_labels.nii.gz",
    "composite": "composite.h5",
    "inverse_composite": "inverse_composite.h5",
    "displacement": "displacement.nii.gz",
    "inverse_displacement": "inverse_displacement.nii.gz",
    "log_jacobian": "log_jacobian.nii.gz",
    "momentum": "momentum.nii.gz",
    "uncertainty": "uncertainty.nii.gz",
    "uncertainty_components": "uncertainty_components.nii.gz",
    "summary": "summary.json",
}


@dataclass(frozen=True, eq=False)
class Registration:
    """Result of the registration of two images.

    Attributes
    ----------
    fixed, moving : Nifti1Image
        The images as they were read, on their native grids.
    warped : ndarray
        (X, Y, Z), float32: the moving image on the fixed image's grid, in its own intensities.
    inverse_warped : ndarray
        (X, Y, Z), float32: the fixed image on the moving image's grid.
    warped_labels : ndarray or None
        (X, Y, Z), with the data type of the moving labels, on the fixed image's grid; None
        without moving labels.
    composite : SimpleITK.CompositeTransform
        Maps fixed native points to moving native points, in LPS: the affine to the template, if
        images are compared on its grid, then the displacement, then the affine to the moving
        image.
    inverse_composite : SimpleITK.CompositeTransform
        Its inverse.
    displacement : ndarray
        (X, Y, Z, 3), float32, RAS mm: `composite` at the voxels of the fixed image.
    inverse_displacement : ndarray
        (X, Y, Z, 3), float32, RAS mm: `inverse_composite` at the voxels of the moving image.
    log_jacobian : ndarray
        (X, Y, Z), float32, on the fixed grid: logarithm of the Jacobian determinant of
        `composite`, affine included, as by ANTs' CreateJacobianDeterminantImage; NaN where
        the map folds.
    momentum : Momentum
        Initial momentum, with its kernel and grids.
    summary : RegistrationSummary
        Content of ``summary.json``.
    uncertainty : ndarray or None
        (X, Y, Z), float32, mm of the fixed image, on its grid, with samples only: square root of
        the summed variances of the components of the displacement, without the affine, see
        :class:`nipype_quicksilver.networks.predictor.Samples`.
    uncertainty_components : ndarray or None
        (X, Y, Z, 3), float32, mm^2, on the fixed grid: these variances, along x, y and z of the
        space in which the images were compared, which may be that of a template; None if they
        were not requested.
    """

    fixed: Nifti1Image
    moving: Nifti1Image
    warped: np.ndarray
    inverse_warped: np.ndarray
    warped_labels: np.ndarray | None
    composite: sitk.CompositeTransform
    inverse_composite: sitk.CompositeTransform
    displacement: np.ndarray
    inverse_displacement: np.ndarray
    log_jacobian: np.ndarray
    momentum: Momentum
    summary: RegistrationSummary = field(repr=False)
    uncertainty: np.ndarray | None = None
    uncertainty_components: np.ndarray | None = None

    def save(self, output_dir: PathLike) -> dict[str, Path]:
        """Write all files, or none.

        Parameters
        ----------
        output_dir : path-like
            Folder, created if needed. Files of an earlier registration are replaced, or removed if
            this registration has no such file; other files are not changed. A run that writes into
            the same folder is waited for.

        Returns
        -------
        dict
            Path of each file by the name of its attribute, see :data:`FILES`.

        Raises
        ------
        InputError
            If the folder cannot be written to.
        QuicksilverError
            If writing fails otherwise, e.g. on a full disk; no files remain.
        """
        start = time.perf_counter()
        files = [Path(output_dir) / name for name in FILES.values()]
        check_apart(files, [file for file in self.summary.inputs.values() if file is not None])
        with staged_folder(output_dir, FILES.values(), FILES["summary"]) as stage:
            names = self._write_images(stage)
            seconds = {**self.summary.seconds, "write": time.perf_counter() - start}
            summary = replace(self.summary, seconds=with_total(seconds))
            write_json(stage / FILES["summary"], as_json(summary))
        return {name: Path(output_dir) / FILES[name] for name in (*names, "summary")}

    def _write_images(self, folder: Path) -> list[str]:
        """Write all files but the summary; return their names in :data:`FILES`."""
        paths = {name: folder / file for name, file in FILES.items()}
        fixed_grid, moving_grid = Grid.from_image(self.fixed), Grid.from_image(self.moving)
        on_fixed = {"warped": self.warped, "log_jacobian": self.log_jacobian}
        for name in ("warped_labels", "uncertainty", "uncertainty_components"):
            if getattr(self, name) is not None:
                on_fixed[name] = getattr(self, name)
        for name, data in on_fixed.items():
            write_image(paths[name], data, self.fixed.affine, like=self.fixed)
        write_image(
            paths["inverse_warped"], self.inverse_warped, self.moving.affine, like=self.moving
        )
        write_composite(paths["composite"], self.composite)
        write_composite(paths["inverse_composite"], self.inverse_composite)
        write_displacement(paths["displacement"], self.displacement, fixed_grid)
        write_displacement(paths["inverse_displacement"], self.inverse_displacement, moving_grid)
        write_momentum(paths["momentum"], self.momentum)
        return [name for name, path in paths.items() if path.exists()]
