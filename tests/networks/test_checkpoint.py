"""Checkpoints on disk: valid ones are read, others are rejected."""

import errno
import hashlib
import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nipype_quicksilver.errors import InputError, QuicksilverError
from nipype_quicksilver.networks import checkpoint
from nipype_quicksilver.networks.card import read_card
from nipype_quicksilver.networks.checkpoint import load_checkpoint, save_checkpoint
from nipype_quicksilver.networks.patch_network import PatchNetwork


def rejected(path, message):
    """Expect an error of one line that names the file."""
    with pytest.raises(InputError) as caught:
        load_checkpoint(path)
    text = str(caught.value)
    assert "\n" not in text
    assert message in text
    assert str(path.with_suffix("")) in text


def change(path, **entries):
    """Change entries of the card of a checkpoint; a name may be `part__entry`."""
    file = path.with_suffix(".json")
    content = json.loads(file.read_text())
    for name, value in entries.items():
        part = content
        *parts, last = name.split("__")
        for key in parts:
            part = part[key]
        if value is None:
            del part[last]
        else:
            part[last] = value
    file.write_text(json.dumps(content))


def test_a_network_is_loaded_with_its_card(saved, network, card):
    loaded, loaded_card = load_checkpoint(str(saved))
    assert isinstance(loaded, PatchNetwork)
    assert not loaded.training
    state = loaded.state_dict()
    assert set(state) == set(network.state_dict())
    assert all(torch.equal(state[name], w) for name, w in network.state_dict().items())
    assert loaded_card == replace(card, sha256=hashlib.sha256(saved.read_bytes()).hexdigest())
    assert read_card(saved) == loaded_card
    assert {file.name for file in saved.parent.iterdir()} == {"a net.safetensors", "a net.json"}


def test_the_card_is_readable_json(saved):
    content = json.loads(saved.with_suffix(".json").read_text())
    assert content["format"] == "quicksilver-checkpoint"
    assert content["architecture"] == {"name": "patch", "parameters": {"features": 2}}
    assert content["grid"] == {"spacing": 1.0, "velocity_factor": 2}
    assert content["intensity"] == {"percentile": 99.5, "equalize": False, "like_contrast": False}
    assert content["lddmm"]["kernel"]["gamma"] == 0.001
    assert content["training"]["recipe"] == {"epochs": 1}


def test_other_tools_read_the_weights(saved, network):
    from safetensors import safe_open

    with safe_open(saved, framework="np") as file:
        assert set(file.keys()) == set(network.state_dict())


def test_channels_last_and_shared_weights(tmp_path, network, card):
    for weights in network.parameters():
        if weights.dim() == 5:
            weights.data = weights.data.contiguous(memory_format=torch.channels_last_3d)
    network.decoders[1] = network.decoders[0]
    path = tmp_path / "net.safetensors"
    save_checkpoint(path, network, card)
    state = load_checkpoint(path)[0].state_dict()
    assert all(torch.equal(state[name], w) for name, w in network.state_dict().items())


def test_half_precision_halves_the_file_and_loads_as_single(saved, network, card):
    half = saved.parent / "half.safetensors"
    save_checkpoint(half, network, card, dtype=torch.float16)
    header = 8 + int.from_bytes(half.read_bytes()[:8], "little")
    other = 8 + int.from_bytes(saved.read_bytes()[:8], "little")
    assert half.stat().st_size - header == (saved.stat().st_size - other) / 2
    for name, weights in load_checkpoint(half)[0].state_dict().items():
        assert weights.dtype == torch.float32
        assert torch.equal(weights, network.state_dict()[name].half().float())


def test_saving_and_loading_use_no_random_numbers(saved, network, card):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    load_checkpoint(saved)
    save_checkpoint(saved, network, card)
    assert torch.equal(torch.rand(1), expected)


def test_a_checkpoint_may_be_overwritten(saved, network, card):
    with torch.no_grad():
        network.decoders[0][1].convolution3.bias += 1
    save_checkpoint(saved, network, replace(card, role="correction"))
    loaded, loaded_card = load_checkpoint(saved)
    assert loaded_card.role == "correction"
    bias = network.decoders[0][1].convolution3.bias
    assert torch.equal(loaded.decoders[0][1].convolution3.bias, bias)


@pytest.mark.parametrize("fraction", [0.99999, 0.9, 0.5, 0.1, 0.001])
def test_truncated(saved, fraction):
    data = saved.read_bytes()
    saved.write_bytes(data[: int(fraction * len(data))])
    rejected(saved, f"is truncated ({int(fraction * len(data))} bytes of at least ")


def test_empty(saved):
    saved.write_bytes(b"")
    rejected(saved, "is empty; get it again")


@pytest.mark.parametrize("content", [b"short", b"no safetensors file at all", bytes(100)])
def test_not_safetensors(saved, content):
    saved.write_bytes(content)
    rejected(saved, "is not a safetensors file, despite its name; 'quicksilver checkpoint import'")


@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_code_under_the_name_of_a_checkpoint_is_not_run(saved, tmp_path, zipped):
    class Bomb:
        def __reduce__(self):
            return Path.touch, (tmp_path / "boom",)

    torch.save(Bomb(), saved, _use_new_zipfile_serialization=zipped)
    rejected(saved, "is not a safetensors file")
    saved.write_bytes(pickle.dumps(Bomb()))
    rejected(saved, "is not a safetensors file")
    assert not (tmp_path / "boom").exists()


def test_one_wrong_bit(saved):
    data = bytearray(saved.read_bytes())
    data[-1] ^= 1
    saved.write_bytes(data)
    rejected(saved, "its SHA-256 is not that of its card a net.json")


def test_bytes_after_the_end(saved):
    saved.write_bytes(saved.read_bytes() + b"more")
    rejected(saved, "SHA-256")
    change(saved, sha256=hashlib.sha256(saved.read_bytes()).hexdigest())
    rejected(saved, "is damaged; get it again")


@pytest.mark.parametrize("header", [b"{not json}", b'{"a": 1}', b'{"a": {"data_offsets": []}}'])
def test_damaged_header(saved, header):
    saved.write_bytes(len(header).to_bytes(8, "little") + header)
    rejected(saved, "its header is damaged; get it again")


def test_the_card_of_another_checkpoint(saved, network, card):
    other = saved.parent / "other.safetensors"
    save_checkpoint(other, network, card)
    assert other.read_bytes() == saved.read_bytes()
    with torch.no_grad():
        network.decoders[0][0].up.bias += 1
    save_checkpoint(other, network, card)
    os.replace(other.with_suffix(".json"), saved.with_suffix(".json"))
    rejected(saved, "one of them is damaged or of another checkpoint")


def test_missing_files(saved):
    rejected(saved.parent / "a net 2.safetensors", "no such file; check the path of the checkpoint")
    saved.with_suffix(".json").unlink()
    rejected(saved, "a net.json: no such file; a net.safetensors needs its card next to it")


def test_invalid_names(saved, tmp_path):
    rejected(saved.with_suffix(".json"), "a checkpoint is a .safetensors file")
    rejected(tmp_path / "OASIS_predict.pth.tar", "'quicksilver checkpoint import' converts a file")
    (tmp_path / "folder.safetensors").mkdir()
    rejected(tmp_path / "folder.safetensors", "is a folder")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable(saved):
    saved.chmod(0)
    rejected(saved, "cannot be read (Permission denied); check its permissions")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"architecture__name": "transformer"}, "architecture 'transformer' is not known (known:"),
        ({"architecture__parameters": {"wings": 2}}, "architecture 'patch': its parameters"),
        ({"architecture__parameters": {"features": 0}}, "needs 1 to 1024 features"),
        ({"architecture__parameters": {"features": "two"}}, "its parameters are not valid"),
        ({"architecture__parameters": {"features": 3}}, "is (2, 1, 3, 3, 3), not (3, 1, 3, 3, 3)"),
        ({"architecture__parameters": {"features": 100_000}}, "needs 1 to 1024 features"),
        ({"architecture__parameters": []}, "architecture.parameters is not a JSON object"),
        ({"architecture": None}, "architecture is missing"),
        ({"format": "nifti"}, "it is not the card of a checkpoint"),
        ({"version": 2}, "it has a newer format; update nipype-quicksilver"),
        ({"role": ""}, "its role is empty"),
        ({"role": 5}, "role is not a string"),
        ({"grid__spacing": 0}, "grid.spacing is 0.0"),
        ({"grid__spacing": float("nan")}, "the number NaN is not finite"),
        ({"grid__velocity_factor": 0}, "grid.velocity_factor is 0"),
        ({"grid__velocity_factor": 1.5}, "grid.velocity_factor is not an integer"),
        ({"lddmm__kernel__gamma": 0}, "gamma > 0"),
        ({"lddmm__kernel__alpha": -1}, "alpha >= 0"),
        ({"lddmm__kernel__power": None}, "lddmm.kernel.power is missing"),
        ({"lddmm__steps": True}, "lddmm.steps is not an integer"),
        ({"lddmm__steps": 10**9}, "a geodesic has 1 to 1000 time steps, not 1000000000"),
        ({"lddmm__kernel__alpha": 1e30}, "a length scale of at most 1000 mm"),
        ({"grid__spacing": 1e9}, "its spacing of 1e+09 mm is beyond all limits"),
        ({"intensity__percentile": 101}, "its percentile must be"),
        ({"intensity__equalize": 1}, "intensity.equalize is not true or false"),
        ({"intensity__like_contrast": 1}, "intensity.like_contrast is not true or false"),
        ({"sha256": "0" * 64}, "SHA-256"),
    ],
)
def test_cards_that_do_not_fit(saved, entries, message):
    change(saved, **entries)
    rejected(saved, message)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"text"', "[" * 100_000])
def test_damaged_cards(saved, text):
    saved.with_suffix(".json").write_text(text)
    rejected(saved, "a net.json: ")


def test_a_card_that_is_not_text(saved):
    saved.with_suffix(".json").write_bytes(b"\xff\xfe\xff")
    rejected(saved, "it is not text in UTF-8")


@pytest.mark.parametrize(
    "parameters",
    [
        {"image": 0},
        {"velocity": 0},
        {"scales": []},
        {"scales": [0]},
        {"widths": []},
        {"widths": {"a": 1}},
        {"widths": [4] * 100},
        {"widths": [10**9, 8]},
        {"passes": 10**9},
        {"passes": 1.5},
        {"tile": 0},
        {"turns": None},
        {"dropout": -1},
    ],
)
def test_odd_parameters_of_a_network(parameters):
    with pytest.raises(InputError, match=r"architecture 'force-unet': its parameters are not") as e:
        checkpoint.build_network("force-unet", parameters)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("offset", ["1e999", "Infinity", "9" * 5000, "[[1]]"])
def test_offsets_that_are_not_numbers(saved, offset):
    header = f'{{"weight": {{"dtype": "F32", "shape": [1], "data_offsets": [0, {offset}]}}}}'
    saved.write_bytes(len(header).to_bytes(8, "little") + header.encode() + bytes(4))
    rejected(saved, "its header is damaged; get it again")


def rewrite(saved, state):
    """Put other weights into a checkpoint, with their hash."""
    from safetensors.torch import save_file

    save_file(state, saved)
    change(saved, sha256=hashlib.sha256(saved.read_bytes()).hexdigest())


def test_weights_that_do_not_fit(saved, network):
    name = "decoders.0.1.convolution3.bias"
    state = {key: weights.clone() for key, weights in network.state_dict().items()}
    rewrite(saved, {key: weights for key, weights in state.items() if key != name})
    rejected(saved, f"its weights do not fit its card: {name} is missing")
    rewrite(saved, {**state, "more": torch.zeros(1)})
    rejected(saved, "more is not part of it")
    rewrite(saved, {**state, name: torch.zeros(1, dtype=torch.int64)})
    rejected(saved, f"{name} has type torch.int64")
    rewrite(saved, {**state, name: torch.tensor([torch.nan])})
    rejected(saved, f"weights {name} contain NaN or infinite values")


def test_a_network_that_diverged_is_not_saved(saved, network, card):
    before = saved.read_bytes()
    with torch.no_grad():
        network.decoders[0][0].up.bias[0] = torch.inf
    with pytest.raises(QuicksilverError, match="contain NaN or infinite values"):
        save_checkpoint(saved, network, card)
    assert saved.read_bytes() == before


def test_a_card_of_another_network_is_not_saved(tmp_path, network, card):
    with pytest.raises(ValueError, match="does not fit the network"):
        save_checkpoint(
            tmp_path / "net.safetensors", network, replace(card, parameters={"features": 3})
        )
    with pytest.raises(ValueError, match="role is empty"):
        save_checkpoint(tmp_path / "net.safetensors", network, replace(card, role=""))
    with pytest.raises(ValueError, match="JSON"):
        nan = {"dice": float("nan")}
        save_checkpoint(tmp_path / "net.safetensors", network, replace(card, validation=nan))
    with pytest.raises(InputError, match=r"is a \.safetensors file"):
        save_checkpoint(tmp_path / "net.pt", network, card)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder(tmp_path, network, card):
    with pytest.raises(InputError, match="its folder does not exist"):
        save_checkpoint(tmp_path / "no" / "net.safetensors", network, card)


@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
def test_a_full_disk_keeps_the_old_checkpoint(saved, network, card, monkeypatch, suffix):
    before = {file.name: file.read_bytes() for file in saved.parent.iterdir()}
    kind = "write_bytes" if suffix == ".safetensors" else "write_text"

    def full(path, *args, **kwargs):
        with path.open("wb") as file:
            file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, kind, full)
    with pytest.raises(InputError, match=f"a net{suffix}: no space left to write it"):
        save_checkpoint(saved, network, replace(card, role="correction"))
    assert {file.name: file.read_bytes() for file in saved.parent.iterdir()} == before


def test_every_architecture_can_be_built():
    for name, place in checkpoint.ARCHITECTURES.items():
        network = checkpoint.build_network(name, {})
        assert f"{type(network).__module__}:{type(network).__name__}" == place


def test_reading_a_card_needs_no_torch(saved):
    code = (
        "import sys; from nipype_quicksilver.networks.card import read_card; "
        "print(read_card(sys.argv[1]).role, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(saved)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "prediction False\n"
