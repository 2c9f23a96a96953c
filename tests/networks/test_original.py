"""Import of files of the original project, written here with known weights."""

import pickle
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from torch.nn import functional

from nipype_quicksilver.errors import InputError
from nipype_quicksilver.networks.checkpoint import load_checkpoint, save_checkpoint
from nipype_quicksilver.networks.original import read_original
from nipype_quicksilver.networks.patches import PatchPredictor

FEATURES = 2
DEFORMATION = {
    "diffOpParams": [0.01, 0.02, 0.001],
    "nTimeSteps": 10,
    "NIterForInverse": 20,
    "integMethod": "RK4",
}


def original_state():
    """Return random weights by the names of the original project."""
    generator = torch.Generator().manual_seed(0)
    state = OrderedDict()

    def convolution(name, inputs, outputs, side=3, transposed=False):
        shape = (inputs, outputs) if transposed else (outputs, inputs)
        scale = (inputs * side**3) ** -0.5
        weights = torch.randn(*shape, side, side, side, generator=generator) * scale
        state[f"{name}.weight"] = weights
        state[f"{name}.bias"] = 0.1 * torch.randn(outputs, generator=generator)

    def activations(name):
        for number in (1, 2, 3, 4):
            state[f"{name}.prelu{number}.weight"] = torch.rand(1, generator=generator)

    for image in "mt":
        for block, inputs, outputs in ((1, 1, FEATURES), (2, FEATURES, 2 * FEATURES)):
            name = f"encoder_{image}_{block}"
            convolution(f"{name}.conv_input", inputs, outputs)
            convolution(f"{name}.conv_inblock1", outputs, outputs)
            convolution(f"{name}.conv_inblock2", outputs, outputs)
            convolution(f"{name}.conv_pooling", outputs, outputs, side=2)
            activations(name)
    for component in "xyz":
        for block, inputs, outputs in ((1, 4 * FEATURES, 2 * FEATURES), (2, 2 * FEATURES, 1)):
            name = f"decoder_{component}_{block}"
            convolution(f"{name}.conv_unpooling", inputs, inputs, block + 1, transposed=True)
            convolution(f"{name}.conv_inblock1", inputs, inputs)
            convolution(f"{name}.conv_inblock2", inputs, inputs)
            convolution(f"{name}.conv_output", inputs, outputs)
            activations(name)
    return state


def reference(state, moving, target):
    """The network of the paper, computed from the names of the weights only."""

    def convolve(name, values, **options):
        return functional.conv3d(
            values, state[f"{name}.weight"], state[f"{name}.bias"], padding=1, **options
        )

    def activate(name, number, values):
        return functional.prelu(values, state[f"{name}.prelu{number}.weight"])

    def encode(name, values):
        for number, layer in enumerate(("input", "inblock1", "inblock2"), start=1):
            values = activate(name, number, convolve(f"{name}.conv_{layer}", values))
        return activate(name, 4, convolve(f"{name}.conv_pooling", values, stride=2))

    def decode(name, values, last):
        up = f"{name}.conv_unpooling"
        values = functional.conv_transpose3d(
            values, state[f"{up}.weight"], state[f"{up}.bias"], stride=2, padding=1
        )
        values = activate(name, 1, values)
        for number, layer in ((2, "inblock1"), (3, "inblock2")):
            values = activate(name, number, convolve(f"{name}.conv_{layer}", values))
        values = convolve(f"{name}.conv_output", values)
        return values if last else activate(name, 4, values)

    features = torch.cat(
        [
            encode("encoder_m_2", encode("encoder_m_1", moving)),
            encode("encoder_t_2", encode("encoder_t_1", target)),
        ],
        dim=1,
    )
    return torch.cat(
        [decode(f"decoder_{c}_2", decode(f"decoder_{c}_1", features, False), True) for c in "xyz"],
        dim=1,
    )


def content(**changes):
    whole = {
        "state_dict": original_state(),
        "network_feature": FEATURES,
        "patch_size": 15,
        "deformation_params": dict(DEFORMATION),
        **changes,
    }
    return {key: value for key, value in whole.items() if value is not None}


def write(path, whole, **options):
    torch.save(whole, path, **options)
    return path


class Python2Pickler(pickle._Pickler):
    """Writes what Python 2 and the PyTorch of 2017 wrote from a GPU."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_str(self, text):
        data = {"cpu": "cuda:0"}.get(text, text).encode()
        self.write(pickle.SHORT_BINSTRING + bytes([len(data)]) + data)
        self.memoize(text)

    dispatch[str] = save_str

    def save_global(self, item, name=None):
        if item is torch.FloatStorage:
            self.write(pickle.GLOBAL + b"torch.cuda\nFloatStorage\n")
            self.memoize(item)
        else:
            super().save_global(item, name)

    dispatch[type] = save_global

    def save_reduce(self, func, args, *rest, **options):
        if func is torch._utils._rebuild_tensor_v2:
            func, args = torch._utils._rebuild_tensor, args[:4]
        super().save_reduce(func, args, *rest, **options)


def dump(item, file, protocol):
    Python2Pickler(file, protocol).dump(item)


@pytest.fixture
def images():
    """Images that are different along each axis."""
    generator = torch.Generator().manual_seed(1)
    return torch.rand((2, 1, 1, 15, 15, 15), generator=generator)


@pytest.mark.parametrize("zipped", [True, False])
def test_agrees_with_the_original_momentum(tmp_path, images, zipped):
    path = write(tmp_path / "a.pth.tar", content(), _use_new_zipfile_serialization=zipped)
    network, card = read_original(path)
    assert torch.allclose(network(*images), reference(original_state(), *images), atol=1e-6)
    assert card.kernel == {"alpha": 0.01, "beta": 0.02, "gamma": 0.001, "power": 1.0}
    assert (card.steps, card.spacing, card.velocity_factor) == (10, 1.0, 1)
    assert (card.percentile, card.equalize, card.role) == (100.0, True, "prediction")
    assert card.parameters == {"features": FEATURES, "dropout": 0.0, "patch_size": 15}
    assert card.training["deformation_params"] == DEFORMATION
    assert card.training["axes"] == "x, y, z"


def test_reversed_axes(tmp_path, images):
    """The original reverses the axes of images and momentum, but not its components."""
    path = write(tmp_path / "a.pth.tar", content(matlab_t7=True))
    network, card = read_original(path)
    reversed_images = (image.permute(0, 1, 4, 3, 2) for image in images)
    expected = reference(original_state(), *reversed_images).permute(0, 1, 4, 3, 2)
    assert torch.allclose(network(*images), expected, atol=1e-6)
    assert not torch.allclose(expected, reference(original_state(), *images), atol=1e-2)
    assert "reversed" in card.training["axes"]


@pytest.mark.parametrize("t7", [None, True])
def test_whole_images(tmp_path, t7):
    network, _ = read_original(write(tmp_path / "a.pth.tar", content(matlab_t7=t7)))
    generator = torch.Generator().manual_seed(1)
    moving, target = torch.rand((2, 1, 1, 15, 29, 29), generator=generator)
    momentum = PatchPredictor(network)(moving, target)
    corner = (..., slice(14), slice(14), slice(14))  # in a single window
    patch = [image[..., :15, :15, :15] for image in (moving, target)]
    if t7:
        patch = [image.permute(0, 1, 4, 3, 2) for image in patch]
    expected = reference(original_state(), *patch)
    if t7:
        expected = expected.permute(0, 1, 4, 3, 2)
    assert torch.allclose(momentum[corner], expected[corner], atol=1e-6)


def test_a_file_of_python_2_from_a_gpu(tmp_path, images):
    module = SimpleNamespace(__name__="pickle2", Pickler=Python2Pickler, dump=dump)
    path = tmp_path / "old.pth.tar"
    write(path, content(), pickle_module=module, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    assert b"torch.cuda\nFloatStorage" in data
    assert b"_rebuild_tensor_v2" not in data
    assert pickle.SHORT_BINSTRING + b"\x0astate_dict" in data
    network, _ = read_original(path)
    assert torch.allclose(network(*images), reference(original_state(), *images), atol=1e-6)


def test_becomes_a_checkpoint(tmp_path, images):
    source = write(tmp_path / "a.pth.tar", content(matlab_t7=True))
    network, card = read_original(source, role="correction", equalize=False, licence="CC0-1.0")
    save_checkpoint(tmp_path / "a.safetensors", network, card)
    loaded, loaded_card = load_checkpoint(tmp_path / "a.safetensors")
    assert torch.equal(loaded(*images), network(*images))
    assert (loaded_card.role, loaded_card.equalize) == ("correction", False)
    assert loaded_card.licence == "CC0-1.0"


def test_the_probabilistic_network(tmp_path, images):
    path = write(tmp_path / "a.pth.tar", content())
    network, card = read_original(path, dropout=0.2)
    assert card.parameters["dropout"] == 0.2
    assert not torch.equal(network(*images), network(*images))


def test_older_and_missing_settings(tmp_path):
    deformation = {"diffOpParams": (0.01, 0, 0.001), "time_steps": 5, "odd": {1: 2}}
    _, card = read_original(write(tmp_path / "a.pth.tar", content(deformation_params=deformation)))
    assert card.steps == 5
    assert card.training["deformation_params"] == {
        "diffOpParams": [0.01, 0, 0.001],
        "time_steps": 5,
    }
    del deformation["time_steps"]
    _, card = read_original(write(tmp_path / "a.pth.tar", content(deformation_params=deformation)))
    assert card.steps == 10


def test_the_unused_activation_may_be_missing(tmp_path):
    state = original_state()
    for component in "xyz":
        del state[f"decoder_{component}_2.prelu4.weight"]
    read_original(write(tmp_path / "a.pth.tar", content(state_dict=state)))


def rejected(path, message):
    with pytest.raises(InputError) as caught:
        read_original(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    assert message in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"state_dict": None}, "state_dict is missing"),
        ({"state_dict": [1, 2]}, "state_dict is missing"),
        ({"network_feature": None}, "network_feature is missing or not an integer"),
        ({"network_feature": 3}, "encoder_m_1.conv_input.weight is (2, 1, 3, 3, 3), not (3, 1,"),
        ({"network_feature": -1}, "needs 1 to 1024 features"),
        ({"patch_size": "15"}, "patch_size is missing or not an integer"),
        ({"patch_size": 16}, "3 more than a multiple of 4"),
        ({"deformation_params": None}, "deformation_params is missing"),
        ({"deformation_params": {"diffOpParams": [0.01, 0.01]}}, "lacks diffOpParams"),
        (
            {"deformation_params": {"diffOpParams": [0.01, 0.01, "a"]}},
            "values that are not finite numbers",
        ),
        ({"deformation_params": {"diffOpParams": [0.01, 0.01, 0.0]}}, "gamma > 0"),
        (
            {"deformation_params": {"diffOpParams": [1, 1, 1], "time_steps": "ten"}},
            "not an integer",
        ),
        (
            {"deformation_params": {"diffOpParams": [1, 1, 1], "time_steps": 0}},
            "a geodesic has 1 to 1000 time steps, not 0",
        ),
    ],
)
def test_other_layouts(tmp_path, changes, message):
    path = write(tmp_path / "a.pth.tar", content(**changes))
    rejected(path, "is not a network of the original project in a known layout: ")
    rejected(path, message)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("encoder_t_2.prelu3.weight", None, "encoder_t_2.prelu3.weight is missing"),
        ("encoder_t_2.prelu3.weight", 0.25, "encoder_t_2.prelu3.weight is missing"),
        ("batch_norm.weight", torch.ones(1), "batch_norm.weight in state_dict is not known"),
        ("decoder_y_1.prelu1.weight", torch.tensor([torch.nan]), "NaN, infinite or non-real"),
        ("decoder_y_1.prelu1.weight", torch.tensor([1]), "NaN, infinite or non-real"),
    ],
)
def test_other_weights(tmp_path, name, value, message):
    state = original_state()
    if value is None:
        del state[name]
    else:
        state[name] = value
    rejected(write(tmp_path / "a.pth.tar", content(state_dict=state)), message)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_is_not_run(tmp_path, zipped):
    class Bomb:
        def __reduce__(self):
            return Path.touch, (tmp_path / "boom",)

    path = tmp_path / "a.pth.tar"
    write(path, content(extra=Bomb()), _use_new_zipfile_serialization=zipped)
    rejected(path, "contains code or objects besides weights")
    assert not (tmp_path / "boom").exists()


def test_a_whole_module_is_rejected(tmp_path, network):
    rejected(write(tmp_path / "a.pth.tar", network), "contains code or objects besides weights")


def test_bare_weights_are_rejected(tmp_path, network):
    rejected(write(tmp_path / "a.pth.tar", torch.zeros(3)), "contains a Tensor instead of")
    rejected(write(tmp_path / "a.pth.tar", network.state_dict()), "network_feature is missing")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("fraction", [0, 0.001, 0.5, 0.99])
def test_truncated(tmp_path, zipped, fraction):
    path = write(tmp_path / "a.pth.tar", content(), _use_new_zipfile_serialization=zipped)
    data = path.read_bytes()
    path.write_bytes(data[: int(fraction * len(data))])
    rejected(path, "is damaged, or is not a file of torch")


@pytest.mark.parametrize("data", [b"text", bytes(1000), bytes(range(256))])
def test_other_files(tmp_path, data):
    path = tmp_path / "a.pth.tar"
    path.write_bytes(data)
    rejected(path, "is not a file of torch; its content was not run")


def test_no_file(tmp_path):
    rejected(tmp_path / "a.pth.tar", "no such file; check the path of the network")
    rejected(tmp_path, "is a folder")
