import json

import pytest

from nipype_quicksilver.cli.main import main


@pytest.fixture
def original(tmp_path):
    """A file in the layout of the original project, and the network that it should become."""
    import torch

    from nipype_quicksilver.networks import original
    from nipype_quicksilver.networks.patch_network import PatchNetwork

    torch.manual_seed(0)
    network = PatchNetwork(features=2)
    state = network.state_dict()
    content = {
        "state_dict": {name: state[ours] for ours, name in original._names() if ours in state},
        "network_feature": 2,
        "patch_size": 15,
        "deformation_params": {"diffOpParams": [0.01, 0.01, 0.001], "nTimeSteps": 10},
    }
    path = tmp_path / "OASIS [old].pth.tar"
    torch.save(content, path)
    return path


@pytest.fixture
def checkpoint(original, tmp_path, capsys):
    path = tmp_path / "net [1].safetensors"
    assert main(["checkpoint", "import", "--quiet", str(original), str(path)]) == 0
    assert capsys.readouterr() == ("", "")
    return path


def test_import(original, tmp_path, capsys):
    from nipype_quicksilver.networks.checkpoint import load_checkpoint

    output = tmp_path / "net.safetensors"
    arguments = ["checkpoint", "import", original, output, "--role", "correction"]
    arguments += ["--dropout", "0.2", "--no-equalization", "--licence", "CC0-1.0"]
    assert main([str(argument) for argument in arguments]) == 0
    printed = capsys.readouterr().err
    assert printed.startswith(f"quicksilver: wrote {output}, 2")
    assert printed.endswith("weights, and its card net.json\n")
    network, card = load_checkpoint(output)
    assert network.dropout == 0.2
    assert (card.role, card.equalize, card.licence) == ("correction", False, "CC0-1.0")
    assert {file.name for file in tmp_path.iterdir()} == {
        original.name,
        "net.json",
        "net.safetensors",
    }


def test_info(checkpoint, capsys):
    assert main(["checkpoint", "info", str(checkpoint)]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "net [1].safetensors" in captured.out
    assert "architecture.parameters.features" in captured.out
    assert "OASIS [old].pth.tar" in captured.out
    assert "0.001" in captured.out
    digest = json.loads(checkpoint.with_suffix(".json").read_text())["sha256"]
    assert all(digest[i : i + 16] in captured.out for i in (0, 16))
    assert "…" not in captured.out


def test_info_needs_the_card_only(checkpoint, capsys):
    checkpoint.unlink()
    assert main(["checkpoint", "info", str(checkpoint)]) == 0
    assert "prediction" in capsys.readouterr().out


def test_verify(checkpoint, capsys):
    assert main(["checkpoint", "verify", str(checkpoint)]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(
        f"quicksilver: {checkpoint}: complete, with its card: patch network"
    )


def test_verify_refuses_what_is_damaged(checkpoint, refused):
    data = checkpoint.read_bytes()
    checkpoint.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    refused("checkpoint", "verify", checkpoint, message="its SHA-256 is not that of its card")
    checkpoint.write_bytes(data[:-1])
    refused("checkpoint", "verify", checkpoint, message="is truncated")
    checkpoint.with_suffix(".json").unlink()
    refused("checkpoint", "info", checkpoint, message="needs its card next to it")
    refused("checkpoint", "verify", checkpoint.parent / "no.safetensors", message="no such file")


def test_incomplete_cards_are_refused(checkpoint, refused):
    card = checkpoint.with_suffix(".json")
    facts = json.loads(card.read_text())
    del facts["grid"]
    card.write_text(json.dumps(facts))
    refused("checkpoint", "info", checkpoint, message="this card cannot be used: grid is missing")


def test_wrong_usage(original, checkpoint, refused, tmp_path):
    output = tmp_path / "out.safetensors"
    refused("checkpoint", "import", original, message="give the name of the file to write")
    refused("checkpoint", "info", checkpoint, output, message="checkpoint info takes one file")
    refused("checkpoint", "verify", checkpoint, "--role", "correction", message="for import only")
    refused("checkpoint", "info", checkpoint, "--no-equalization", message="for import only")
    refused("checkpoint", "import", original, tmp_path / "a.pt", message="must end in .safetensors")
    refused(
        "checkpoint", "import", original, tmp_path / "no" / output.name, message="create it first"
    )
    refused("checkpoint", "import", checkpoint, output, message="is not a file of torch")
    refused("checkpoint", "import", tmp_path / "no.pth.tar", output, message="no such file")
    refused(
        "checkpoint", "info", original, message="'quicksilver checkpoint import' converts a file"
    )
    refused("checkpoint", "remove", checkpoint, message="invalid choice: 'remove'")
    refused("checkpoint", message="required: action, FILE")
    for value in ("1", "-0.1", "nan", "much"):
        arguments = ("--dropout", value) if value[0] != "-" else (f"--dropout={value}",)
        refused(
            "checkpoint",
            "import",
            original,
            output,
            *arguments,
            message="is not a number from 0 to less",
        )


def test_import_leaves_nothing_behind_when_it_fails(original, refused, tmp_path):
    original.write_bytes(original.read_bytes()[:-2000])
    refused("checkpoint", "import", original, tmp_path / "net.safetensors", message="is damaged")
