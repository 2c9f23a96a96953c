"""Small valid files, of every kind that is read."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

SHAPE = (7, 8, 9)
AFFINE = np.array([[-1.5, 0, 0, 4], [0, 1.5, 0, -5], [0, 0, 2, 6], [0, 0, 0, 1]])
MASK = np.pad(np.ones((3, 4, 5), np.uint8), 2)
MATRIX = np.array([[1.1, 0.1, 0, 3], [-0.1, 0.9, 0, -4], [0, 0, 1.05, 5], [0, 0, 0, 1.0]])
KERNEL = {"alpha": 0.2, "beta": 0.0, "gamma": 0.1, "power": 2.0}


def images(folder: Path) -> None:
    """Write images of whole numbers: NIfTI-1 and NIfTI-2, compressed or not, scaled, MGH."""
    data = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    for name in ("a.nii", "b.nii.gz", "d.nii"):
        nib.save(nib.Nifti1Image(data, AFFINE), folder / name)
    series = nib.Nifti1Image(np.stack([data, data], -1).astype(np.float32), AFFINE)
    nib.save(series, folder / "f.nii.gz")
    scaled = nib.Nifti1Image(data, AFFINE)
    scaled.header.set_slope_inter(2, 1)
    nib.save(scaled, folder / "g.nii")
    nib.save(nib.MGHImage(data.astype(np.int32), AFFINE), folder / "c.mgz")
    nib.save(nib.Nifti2Image(data, AFFINE), folder / "e.nii")


def analyze(folder: Path) -> None:
    """Write an image in Analyze format."""
    data = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    nib.save(nib.Spm99AnalyzeImage(data, AFFINE), folder / "a.img")


def transforms(folder: Path) -> None:
    """Write transforms in all formats of ITK."""
    import SimpleITK as sitk

    from nipype_quicksilver.spatial import transforms as files

    grid = _grid()
    field = np.broadcast_to([1.0, 2.0, -1.0], (*SHAPE, 3))
    files.write_displacement(folder / "field.nii.gz", field, grid)
    for name in ("affine.txt", "affine.tfm", "affine.mat"):
        files.write_affine(folder / name, MATRIX)
    warp = files.displacement_transform(field, grid)
    chain = files.compose([files.affine_transform(MATRIX), warp])
    files.write_composite(folder / "composite.h5", chain)
    spline = sitk.BSplineTransform(3)
    spline.SetTransformDomainMeshSize([2, 2, 2])
    spline.SetTransformDomainPhysicalDimensions([20.0, 20.0, 20.0])
    spline.SetParameters([0.5] * spline.GetNumberOfParameters())
    sitk.WriteTransform(spline, str(folder / "spline.tfm"))
    euler = sitk.Euler3DTransform((1.0, 2, 3), 0.1, 0.2, 0.3, (4.0, 5, 6))
    sitk.WriteTransform(sitk.CompositeTransform([euler, spline]), str(folder / "chain.tfm"))
    np.savetxt(folder / "matrix.txt", MATRIX)


def momentum(folder: Path) -> None:
    """Write a momentum."""
    from nipype_quicksilver.spatial.grids import Grid
    from nipype_quicksilver.spatial.momentum import Momentum, write_momentum

    working = Grid((8, 8, 8), np.eye(4))
    data = np.zeros((4, 4, 4, 3), np.float32) + 0.1
    start = Momentum(data, working.subsampled(2), KERNEL, 3, working)
    write_momentum(folder / "momentum.nii.gz", start)


def texts(folder: Path) -> None:
    """Write tables and other files of text, and the images that tables name."""
    images(folder)
    table = "x,y,z,name\n1,2,3,a\n-1.5,2e1,.5,b\n"
    (folder / "points.csv").write_text(table)
    rows = "fixed\tmoving\tfixed_labels\tmoving_labels\na.nii\td.nii\ta.nii\td.nii\n"
    (folder / "pairs.tsv").write_text(rows)
    rows = "participant_id\tsession_id\timage\tlabels\n01\t1\ta.nii\tn/a\nsub-02\t1\td.nii\ta.nii\n"
    (folder / "cohort.tsv").write_text(rows)
    (folder / "labels.tsv").write_text("index\tname\n1\tleft\n2\tright\n")
    (folder / "lut.txt").write_text("# No name R G B A\n1 left 1 2 3 0\n2 right 4 5 6 0\n")
    header = "label\tname\ttissue\tt1w\tt2w\tscored\n"
    rows = "2\twhite\twm\t.9\t.3\t1\n3\tgrey\tgm\t.6\t.6\t1\n4\tventricle\tcsf\t.1\t.9\t0\n"
    (folder / "tissues.tsv").write_text(header + rows)
    arguments = {"sbatch_args": "-p x", "request": "-c {n_procs}", "cpu_args": "", "max_jobs": 5}
    (folder / "arguments.json").write_text(json.dumps(arguments))
    (folder / "recipe.json").write_text(json.dumps(recipe()))


def recipe() -> dict[str, Any]:
    """Return the recipe of a small network."""
    return {
        "format": "quicksilver-recipe",
        "version": 1,
        "architecture": {"name": "force-unet", "parameters": {"widths": [4, 8], "passes": 1}},
        "grid": [16, 16, 16],
        "training": {"iterations": 6, "learning_rate": 0.1},
        "validation": {"every": 2, "patience": 0, "pairs": 1},
    }


def surface(folder: Path) -> None:
    """Write a surface, compressed and as text."""
    from nibabel.gifti import GiftiDataArray, GiftiImage

    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    for name, encoding in (("a.surf.gii", "GIFTI_ENCODING_B64GZ"), ("b.gii", "ASCII")):
        arrays = [
            GiftiDataArray(points, "NIFTI_INTENT_POINTSET", encoding=encoding),
            GiftiDataArray(faces, "NIFTI_INTENT_TRIANGLE", encoding=encoding),
        ]
        GiftiImage(darrays=arrays).to_filename(folder / name)


def _grid() -> Any:
    from nipype_quicksilver.spatial.grids import Grid

    return Grid(SHAPE, AFFINE)
