"""A pair of images small enough to register in seconds."""

from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import from_matvec


def brain(points):
    """Return intensities and labels of a smooth head at points (..., 3), RAS mm."""
    x, y, z = np.moveaxis(points, -1, 0)
    radius = np.sqrt((x / 13) ** 2 + (y / 16) ** 2 + (z / 11) ** 2)
    core = np.sqrt((x / 6) ** 2 + ((y - 2) / 7) ** 2 + (z / 5) ** 2)
    texture = 80 * np.sin(x / 5) * np.cos(y / 6) + 40 * np.cos(z / 5)
    image = np.where(radius < 1, 500 + 300 * (core < 1) + texture, 0)
    return image.astype(np.int16), np.where(radius < 1, 1 + (core < 1), 0).astype(np.uint8)


@pytest.fixture(scope="session")
def pair(tmp_path_factory):
    """Files of a fixed and a moving image with masks, labels and an affine.

    Grids have different voxels and axes; the moving brain is bent and lies 3 mm further to the
    right, which the affine describes.
    """
    from nipype_quicksilver.spatial import images, transforms
    from nipype_quicksilver.spatial.grids import Grid

    folder = tmp_path_factory.mktemp("pair")
    fixed = Grid((18, 22, 16), from_matvec(np.diag([2.0, 2.0, 2.0]), [-17, -21, -15]))
    moving = Grid((20, 20, 18), from_matvec(np.diag([-2.0, 2.0, 1.5]), [22, -19, -13]))
    shift = np.eye(4)
    shift[0, 3] = 3

    files = SimpleNamespace(affine=transforms.write_affine(folder / "shift.mat", shift))
    for name, grid in (("fixed", fixed), ("moving", moving)):
        points = grid.coordinates()
        if name == "moving":
            points = points - shift[:3, 3]
            points = 0.85 * points + np.sin(points[..., [1, 2, 0]] / 8)
        data, labels = brain(points)
        contents = {name: data, f"{name}_mask": (labels > 0), f"{name}_labels": labels}
        for stem, content in contents.items():
            path = images.write_image(folder / f"{stem}.nii.gz", content, grid.affine)
            setattr(files, stem, path)
    return files


@pytest.fixture(scope="session")
def small_pair(pair, tmp_path_factory):
    """Files of the pair in a world that is a tenth as large."""
    from nipype_quicksilver.spatial import images, transforms
    from nipype_quicksilver.spatial.magnification import magnified, scaling

    folder = tmp_path_factory.mktemp("small_pair")
    matrix = scaling(0.1) @ transforms.read_affine(pair.affine) @ scaling(10)
    files = SimpleNamespace(affine=transforms.write_affine(folder / "shift.mat", matrix))
    for name, file in vars(pair).items():
        if name != "affine":
            image = magnified(nib.load(file), 0.1)
            data = np.asanyarray(image.dataobj)
            setattr(files, name, images.write_image(folder / file.name, data, image.affine))
    return files


def labelled_brain(number, side=32):
    """Return a label map (side cubed, 1 mm) with codes of FreeSurfer; each number differs."""
    random = np.random.default_rng(number)
    axes = [np.arange(side) - (side - 1) / 2] * 3
    x, y, z = np.meshgrid(*axes, indexing="ij")
    waves = [a + random.uniform(0.3, 1.2) * np.sin(b / 4 + random.uniform(0, 6)) for a, b in
             ((x, y), (y, z), (z, x))]  # fmt: skip
    x, y, z = waves
    radius = np.sqrt(x**2 + y**2 + z**2) * 32 / side
    labels = np.zeros((side,) * 3, np.int16)
    left = x < 0
    for limit, codes in ((11, (3, 42)), (8, (2, 41)), (5, (10, 49)), (2.5, (4, 43))):
        labels[radius < limit] = np.where(left, *codes)[radius < limit]
    labels[(radius < 9) & (z < -6)] = 16
    return labels


@pytest.fixture(scope="session")
def label_maps(tmp_path_factory):
    """Files of four small label maps: three to train on and one more."""
    from nipype_quicksilver.spatial import images

    folder = tmp_path_factory.mktemp("label maps")
    return [
        images.write_image(folder / f"sub-{n}_dseg.nii.gz", labelled_brain(n), np.eye(4))
        for n in range(1, 5)
    ]


@pytest.fixture(scope="session")
def recipe(tmp_path_factory):
    """File of a recipe that trains a tiny network in a second."""
    import json

    path = tmp_path_factory.mktemp("recipes") / "tiny.json"
    content = {
        "format": "quicksilver-recipe",
        "version": 1,
        "architecture": {
            "name": "force-unet",
            "parameters": {"image": 2, "velocity": 4, "scales": [2, 4], "widths": [4, 8]},
        },
        "grid": [32, 32, 32],
        "training": {"iterations": 6, "warm_up": 2, "learning_rate": 0.003},
        "validation": {"pairs": 2, "every": 3},
    }
    path.write_text(json.dumps(content))
    return path


@pytest.fixture(scope="session")
def tiny_networks(tmp_path_factory):
    """Checkpoints: a pair, and one that draws samples."""
    from tests.helpers.tiny_networks import save_unet

    folder = tmp_path_factory.mktemp("networks")
    return {
        "prediction_network": save_unet(folder / "prediction.safetensors", first_step=0.1),
        "correction_network": save_unet(
            folder / "correction.safetensors",
            velocity=2,
            first_step=0.05,
            changes={"role": "correction"},
        ),
        "probabilistic": save_unet(
            folder / "probabilistic.safetensors", first_step=0.1, dropout=0.3, noise=0.1
        ),
    }


@pytest.fixture(scope="session")
def conformed_pair(pair, tmp_path_factory):
    """The prepared pair on disk."""
    from nipype_quicksilver.registration.pair import ScanFiles, paths_of, read_pair
    from nipype_quicksilver.registration.preparation import prepare
    from nipype_quicksilver.spatial import images

    files = ScanFiles(pair.fixed, pair.fixed_mask), ScanFiles(pair.moving, pair.moving_mask)
    prepared = prepare(read_pair(*files, pair.affine), paths_of(*files))
    folder = tmp_path_factory.mktemp("conformed")
    paths = {}
    for name in ("fixed", "moving"):
        data = getattr(prepared, name)
        for stem, content in ((name, data), (f"{name}_mask", data > 0)):
            path = folder / f"{stem}.nii.gz"
            paths[stem] = images.write_image(path, content, prepared.grid.affine)
    return paths


@pytest.fixture(scope="session")
def registered(pair, tiny_networks, tmp_path_factory):
    """Folder of a registration of the pair that has all optional files; not to be changed."""
    from nipype_quicksilver.cli.main import main

    out = tmp_path_factory.mktemp("registered") / "out"
    options = {name: getattr(pair, name) for name in ("fixed", "moving", "affine")}
    options |= {f"{side}-mask": getattr(pair, f"{side}_mask") for side in ("fixed", "moving")}
    options |= {f"{side}-labels": getattr(pair, f"{side}_labels") for side in ("fixed", "moving")}
    options |= {"method": "predict", "prediction-network": tiny_networks["probabilistic"]}
    options |= {"samples": 2, "output-dir": out}
    arguments = [str(item) for name, value in options.items() for item in (f"--{name}", value)]
    with pytest.MonkeyPatch.context() as patch:
        # The network is untrained: its prediction would be made smaller and smaller.
        patch.setattr("nipype_quicksilver.networks.predictor._similarity", lambda *_: 1.0)
        assert main(["register", *arguments, "--quiet", "--device", "cpu"]) == 0
    return out


@pytest.fixture
def anything_goes(monkeypatch):
    """Predictions of untrained networks are taken whole, whatever they do to the images."""
    monkeypatch.setattr("nipype_quicksilver.networks.predictor._similarity", lambda *_: 1.0)


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A folder of programs, first on the PATH, whose name has a space."""
    folder = tmp_path / "my programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return folder


@pytest.fixture
def install(programs):
    """A function that installs a program."""

    def install(name, text):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)

    return install
