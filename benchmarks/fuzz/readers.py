"""The readers of the package: what each reads, how it is damaged, and what is right to come out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.fuzz import records, seeds
from benchmarks.fuzz.judging import Nonsense, check_finite, check_image, check_points
from benchmarks.fuzz.mutations import (
    Mutation,
    damage_bytes,
    damage_compressed_xml,
    damage_json,
    damage_nested_json,
    damage_numbers,
    damage_table,
    damage_text,
    inside_gzip,
)

_POINTS = np.array([[0.0, 0, 0], [5, 5, 5], [90, -80, 70]])
_IMAGES: dict[str, Mutation] = {
    "a.nii": damage_numbers(360),
    "b.nii.gz": inside_gzip(damage_numbers(360)),
    "c.mgz": inside_gzip(damage_numbers(90)),
    "d.nii": damage_bytes,
    "e.nii": damage_numbers(560),
    "g.nii": damage_numbers(360),
}
_SERIES = {**_IMAGES, "f.nii.gz": inside_gzip(damage_numbers(4000))}
_TEXTS: dict[str, Mutation] = {"affine.txt": damage_text, "*.tfm": damage_text}


@dataclass(frozen=True)
class Reader:
    """A reader of files.

    Attributes
    ----------
    write : callable
        Writes the valid files into a folder.
    mutations : mapping
        How each file that is read may be damaged, by a pattern of its name.
    read : callable
        Reads a file; raises `Nonsense` for a value that is not right.
    repair : callable or None
        Makes hashes fit to the damaged files of a folder, so that reading goes beyond the hashes.
    """

    write: Callable[[Path], None]
    mutations: Mapping[str, Mutation]
    read: Callable[[Path], None]
    repair: Callable[[Path], None] | None = None

    def files(self, folder: Path) -> dict[Path, Mutation]:
        """Write the valid files, and return how each may be damaged."""
        self.write(folder)
        return {
            file: mutation
            for pattern, mutation in self.mutations.items()
            for file in sorted(folder.glob(pattern))
        }


def _image(path: Path) -> None:
    from nipype_quicksilver.spatial.images import read_image

    check_image(read_image(path))


def _series(path: Path) -> None:
    from nipype_quicksilver.spatial.images import read_series

    check_image(read_series(path))


def _labels(path: Path) -> None:
    from nipype_quicksilver.spatial.images import read_labels

    labels = read_labels(path)
    check_image(labels)
    if labels.get_data_dtype().kind not in "iu":
        raise Nonsense("labels that are not integers")


def _mask(path: Path) -> None:
    from nipype_quicksilver.spatial.images import read_mask

    mask = read_mask(path)
    check_image(mask)
    if set(np.unique(np.asanyarray(mask.dataobj)).tolist()) - {0, 1}:
        raise Nonsense("a mask that is not of 0 and 1")


def _header(path: Path) -> None:
    from nipype_quicksilver.spatial.grids import Grid
    from nipype_quicksilver.spatial.limits import check_world, machine_memory

    grid = Grid.from_file(path)
    check_world(grid.affine.astype(np.float32), grid.shape, "header")
    if np.prod([float(n) for n in grid.shape]) > machine_memory():
        raise Nonsense("a reference beyond the memory")


def _analyze(path: Path) -> None:
    from nipype_quicksilver.evaluation.analyze import as_nifti

    for copy in path.parent.glob("a-*.nii.gz"):
        copy.unlink()
    _series(as_nifti(path.with_name("a.hdr"), path.parent))


def _transform(path: Path) -> None:
    from nipype_quicksilver.spatial.transforms import map_points, read_transform

    check_finite(map_points(read_transform(path), _POINTS))


def _matrix(path: Path) -> None:
    from nipype_quicksilver.spatial.interchange import read_matrix

    check_finite(np.linalg.inv(read_matrix(path, "ras")))


def _momentum(path: Path) -> None:
    from nipype_quicksilver.lddmm.settings import LARGEST_STEPS
    from nipype_quicksilver.spatial.momentum import read_momentum

    momentum = read_momentum(path)
    check_finite(momentum.data)
    if not 1 <= momentum.steps <= LARGEST_STEPS:
        raise Nonsense(f"{momentum.steps} steps")


def _points(path: Path) -> None:
    from nipype_quicksilver.spatial.points import read_points

    table = read_points(path)
    check_points(table.coordinates())
    cells = [row[table.columns.index(axis)] for row in table.rows for axis in "xyz"]
    if any("_" in cell for cell in cells):
        raise Nonsense("1_000 counts as a number")


def _surface(path: Path) -> None:
    from nipype_quicksilver.spatial.surfaces import map_surface

    def shift(points: np.ndarray) -> np.ndarray:
        check_points(points)
        return points + 1

    map_surface(path, path.with_name("mapped.surf.gii"), shift)


def _pairs(path: Path) -> None:
    from nipype_quicksilver.evaluation.pairs import read_pairs

    read_pairs(path)


def _cohort(path: Path) -> None:
    from nipype_quicksilver.cohort.images import read_table

    read_table(path, "T1w")


def _label_names(path: Path) -> None:
    from nipype_quicksilver.spatial.fusion import read_label_names

    read_label_names(path)


def _tissues(path: Path) -> None:
    from nipype_quicksilver.training.tissues import read_tissue_table, rows_of_labels

    table = read_tissue_table(path)
    rows_of_labels(np.arange(4), table)
    check_finite(np.array(table.t1w + table.t2w))


def _recipe(path: Path) -> None:
    from nipype_quicksilver.training.recipes import read_plan

    read_plan(path)


def _arguments(path: Path) -> None:
    from nipype_quicksilver.cohort.plugins import read_arguments
    from nipype_quicksilver.execution.resources import set_job_arguments

    class Node:
        n_procs, mem_gb = 2, 4.0

        def is_gpu_node(self) -> bool:
            return True

    arguments = read_arguments(path, "SLURM")
    set_job_arguments([Node()], "SLURM", arguments)


_KEPT: dict[str, Mutation] = {"*.json": damage_json, "*.nii.gz": damage_bytes}
_NETWORK = (records.write_network, records.read_network, records.repair_network)

READERS = {
    "image": Reader(seeds.images, _IMAGES, _image),
    "series": Reader(seeds.images, _SERIES, _series),
    "labels": Reader(seeds.images, _IMAGES, _labels),
    "mask": Reader(seeds.images, _IMAGES, _mask),
    "header": Reader(seeds.images, _SERIES, _header),
    "analyze": Reader(
        seeds.analyze, {"a.hdr": damage_numbers(348), "a.img": damage_bytes}, _analyze
    ),
    "field": Reader(seeds.transforms, {"*.nii.gz": inside_gzip(damage_numbers(2000))}, _transform),
    "matrix": Reader(seeds.transforms, {"matrix.txt": damage_text}, _matrix),
    "momentum": Reader(seeds.momentum, {"*.nii.gz": damage_nested_json}, _momentum),
    "points": Reader(seeds.texts, {"points.csv": damage_table(",")}, _points),
    "surface": Reader(seeds.surface, {"*.gii": damage_compressed_xml}, _surface),
    "pairs": Reader(seeds.texts, {"pairs.tsv": damage_table("\t")}, _pairs),
    "cohort-table": Reader(seeds.texts, {"cohort.tsv": damage_table("\t")}, _cohort),
    "label-table": Reader(
        seeds.texts, {"labels.tsv": damage_table("\t"), "lut.txt": damage_text}, _label_names
    ),
    "tissue-table": Reader(seeds.texts, {"tissues.tsv": damage_table("\t")}, _tissues),
    "recipe": Reader(seeds.texts, {"recipe.json": damage_json}, _recipe),
    "plugin-args": Reader(seeds.texts, {"arguments.json": damage_json}, _arguments),
    "card": Reader(_NETWORK[0], {"net.json": damage_json}, *_NETWORK[1:]),
    "checkpoint": Reader(_NETWORK[0], {"*.safetensors": damage_bytes}, *_NETWORK[1:]),
    "original": Reader(_NETWORK[0], {"net.pth.tar": damage_bytes}, records.read_original),
    "summary": Reader(records.write_summary, {"summary.json": damage_json}, records.read_summary),
    "cohort-record": Reader(
        records.write_record, {"sub-*/*/*.json": damage_json}, records.read_record
    ),
    "kept-mask": Reader(records.kept_mask, _KEPT, records.kept_mask),
    "kept-affine": Reader(records.kept_affine, _KEPT, records.kept_affine),
    "training": Reader(
        records.write_training,
        {"state.pt": damage_bytes, "run.json": damage_json},
        records.read_training,
    ),
    # Last: each input starts a process.
    "transform-text": Reader(seeds.transforms, _TEXTS, _transform),
    "transform-mat": Reader(seeds.transforms, {"*.mat": damage_numbers(400)}, _transform),
    "transform-h5": Reader(seeds.transforms, {"*.h5": damage_bytes}, _transform),
    "transform-h5-numbers": Reader(seeds.transforms, {"*.h5": damage_numbers(30000)}, _transform),
}
