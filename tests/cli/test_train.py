"""Training from the command line: what it writes, how it resumes, and what it refuses."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from nipype_quicksilver.cli.main import main
from nipype_quicksilver.spatial import images
from tests.helpers.tables import rows

PROGRAM = [sys.executable, "-m", "nipype_quicksilver"]


def arguments(label_maps, recipe, folder, *more):
    """Return the arguments of a training on two label maps, validated on two others."""
    first = ["train", "--quiet", "--num-threads", "1", "--labels", *label_maps[:2]]
    first += ["--validation", *label_maps[2:], "--recipe", recipe, "--output-dir", folder, *more]
    return [str(argument) for argument in first]


def without_seconds(path):
    return [{name: cell for name, cell in row.items() if name != "seconds"} for row in rows(path)]


@pytest.fixture(scope="module")
def trained(label_maps, recipe, tmp_path_factory):
    """The folder of an uninterrupted training."""
    folder = tmp_path_factory.mktemp("trained") / "a run"
    assert main(arguments(label_maps, recipe, folder)) == 0
    return folder


def same_result(first, second):
    """Return whether two trainings have the same weights and losses."""
    name = "prediction.safetensors"
    return (first / name).read_bytes() == (second / name).read_bytes() and all(
        without_seconds(first / table) == without_seconds(second / table)
        for table in ("log.csv", "validation.csv")
    )


def test_files(trained, label_maps):
    from nipype_quicksilver.networks.checkpoint import load_checkpoint

    network, card = load_checkpoint(trained / "prediction.safetensors")
    assert (card.role, card.architecture, card.velocity_factor) == ("prediction", "force-unet", 4)
    assert network.image == 2
    used = [(item["use"], item["file"]) for item in card.training["inputs"]]
    assert used == [("labels", path.name) for path in label_maps[:2]] + [
        ("validation labels", path.name) for path in label_maps[2:]
    ]
    assert card.training["recipe"] == json.loads((trained / "recipe.json").read_text())
    assert card.validation["before"]["energy"] == 0
    assert card.validation["after"]["loss"] < card.validation["before"]["loss"]
    assert [row["iteration"] for row in rows(trained / "log.csv")] == list("123456")
    assert [row["iteration"] for row in rows(trained / "validation.csv")] == ["0", "3", "6"]
    run = json.loads((trained / "run.json").read_text())
    assert {"torch", "nipype-quicksilver"} <= set(run["versions"])
    assert all(len(item["sha256"]) == 64 for item in run["inputs"])
    assert (trained / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_weights_of_the_best_validation_are_kept(trained):
    import torch

    state = torch.load(trained / "state.pt", weights_only=True)
    losses = {row["iteration"]: float(row["loss"]) for row in rows(trained / "validation.csv")[1:]}
    assert state["best"]["iteration"] == int(min(losses, key=losses.get))


def test_a_killed_training_resumes_bit_identically(trained, label_maps, recipe, tmp_path):
    folder = tmp_path / "killed"
    # The first process is killed while it computes, without a chance to clean up.
    line = [*PROGRAM, *arguments(label_maps, recipe, folder, "--save-every", "1")]
    with subprocess.Popen(line) as process:
        deadline = time.monotonic() + 300
        while not (folder / "state.pt").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (folder / "prediction.safetensors").exists()
    assert main(arguments(label_maps, recipe, folder)) == 0
    assert same_result(folder, trained)


def test_runs_again_when_finished(trained, label_maps, recipe, tmp_path):
    import shutil

    folder = shutil.copytree(trained, tmp_path / "copy")
    (folder / "prediction.safetensors").unlink()
    assert main(arguments(label_maps, recipe, folder)) == 0
    assert same_result(folder, trained)


def test_full_disk(trained, label_maps, recipe, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "full"
    write = Path.write_bytes
    written = []

    def fill(path, data):
        written.append(path)
        if len(written) > 2:
            write(path, bytes(data)[:100])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, data)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", fill)
        assert main(arguments(label_maps, recipe, folder, "--save-every", "2")) == 2
    message = capsys.readouterr().err
    assert "state.pt: no space left to write it" in message and message.count("\n") == 1
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
    assert main(arguments(label_maps, recipe, folder)) == 0
    assert same_result(folder, trained)


def test_full_disk_in_the_log(label_maps, recipe, tmp_path, monkeypatch, capsys):
    from nipype_quicksilver.training import folder

    def fill(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(folder.Table, "_append", fill)
    assert main(arguments(label_maps, recipe, tmp_path / "full")) == 2
    assert "validation.csv: no space left" in capsys.readouterr().err


def test_a_different_training_is_not_resumed(trained, label_maps, recipe, refused):
    for more, message in (
        (["--iterations", "7"], "a different recipe"),
        (["--seed", "1"], "a different recipe"),
    ):
        refused(*arguments(label_maps, recipe, trained, *more), message=message)
    swapped = [label_maps[1], label_maps[0], *label_maps[2:]]
    refused(*arguments(swapped, recipe, trained), message="different images, label maps or momenta")


def test_inputs_may_have_moved(trained, label_maps, recipe, tmp_path):
    import shutil

    folder = shutil.copytree(trained, tmp_path / "copy")
    moved = [shutil.copy(path, tmp_path / path.name) for path in label_maps]
    assert main(arguments(moved, recipe, folder)) == 0


def test_early_stopping(label_maps, recipe, tmp_path):
    content = json.loads(recipe.read_text())
    # No network learns at such a rate: the first validation is never beaten.
    content["training"] |= {"iterations": 50, "learning_rate": 1e-12}
    content["validation"] |= {"every": 1}
    path = tmp_path / "slow.json"
    path.write_text(json.dumps(content))
    assert main(arguments(label_maps, path, tmp_path / "run", "--patience", "2")) == 0
    assert len(rows(tmp_path / "run" / "log.csv")) < 50


def test_correction(trained, label_maps, recipe, tmp_path, refused):
    from nipype_quicksilver.networks.checkpoint import load_checkpoint

    before = trained / "prediction.safetensors"
    folder = tmp_path / "run"
    more = ["--role", "correction", "--before", before, "--half", "--licence", "CC0-1.0"]
    more += ["--name", "small", "--iterations", "2"]
    assert main(arguments(label_maps, recipe, folder, *more)) == 0
    _, card = load_checkpoint(folder / "small.safetensors")
    _, earlier = load_checkpoint(before)
    assert (card.role, card.licence) == ("correction", "CC0-1.0")
    assert [item["sha256"] for item in card.training["before"]] == [earlier.sha256]
    assert (folder / "small.safetensors").stat().st_size < 0.7 * before.stat().st_size
    other = tmp_path / "other"
    refused(*arguments(label_maps, recipe, other, "--before", before), message="networks before it")
    refused(
        *arguments(label_maps, recipe, other, "--role", "correction"), message="networks before it"
    )
    content = json.loads(recipe.read_text())
    content["training"]["kernel"] = {"alpha": 0.1}
    path = tmp_path / "kernel.json"
    path.write_text(json.dumps(content))
    refused(*arguments(label_maps, path, other, *more), message="trained with another kernel")


def test_start_with_known_weights(trained, label_maps, recipe, tmp_path, refused):
    import torch

    content = json.loads(recipe.read_text())
    # The same weights, and so small a rate that they stay.
    content["architecture"]["parameters"]["dropout"] = 0.1
    content["training"] |= {"iterations": 1, "learning_rate": 1e-12}
    path = tmp_path / "dropout.json"
    path.write_text(json.dumps(content))
    start, folder = trained / "prediction.safetensors", tmp_path / "run"
    assert main(arguments(label_maps, path, folder, "--start", start)) == 0
    state = torch.load(folder / "state.pt", weights_only=True)["training"]["network"]
    best = torch.load(trained / "state.pt", weights_only=True)["best"]["weights"]
    for name, weights in best.items():
        torch.testing.assert_close(state[name], weights)
    card = json.loads((folder / "prediction.json").read_text())
    assert [item["file"] for item in card["training"]["start"]] == [start.name]
    content["architecture"]["parameters"]["widths"] = [4, 6]
    path.write_text(json.dumps(content))
    other = arguments(label_maps, path, tmp_path / "other", "--start", start)
    refused(*other, message="has other weights than the network of the recipe")


def test_inputs_that_cannot_be_used(label_maps, recipe, tmp_path, refused):
    empty, broken = tmp_path / "empty folder", tmp_path / "broken_dseg.nii.gz"
    empty.mkdir()
    broken.write_bytes(label_maps[0].read_bytes()[:300])
    grid = np.eye(4)
    few = images.write_image(
        tmp_path / "few.nii.gz", np.asanyarray(nib.load(label_maps[0]).dataobj) // 3 * 3 % 5, grid
    )
    run = tmp_path / "run"
    first = label_maps[0]
    for paths, message in (
        ([first], "is the only one of the label maps; give at least 2"),
        ([first, first], "is given twice"),
        ([first, tmp_path / "missing.nii"], "missing.nii: no such file or folder"),
        ([first, empty], "has no image"),
        ([first, broken], "broken_dseg.nii.gz: "),
        ([first, few], "few.nii.gz: has "),
    ):
        more = ["--labels", *paths, "--recipe", recipe, "--output-dir", run]
        refused("train", "--quiet", *more, message=message)
    refused("train", "--output-dir", run, message="give label maps, images, or a data set")
    both = ["--labels", *label_maps[:2], "--validation", *label_maps[1:3]]
    refused(
        "train", *both, "--recipe", recipe, "--output-dir", run, message="validate on other files"
    )
    missing = tmp_path / "no recipe.json"
    more = ["--labels", *label_maps[:2], "--output-dir", run, "--recipe"]
    refused(
        "train", *more, missing, message="no recipe.json: no such file; give a recipe, or one of"
    )
    refused("train", *more, recipe, "--device", "cuda:7", message="device cuda:7: torch")
    refused("train", *more, recipe, "--patience", "3", message="patience counts validations")
    momenta = ["--validation-momenta", empty]
    refused(
        "train", *more, recipe, *momenta, message="validation momenta are for training on momenta"
    )
    of_momenta = ["--momenta", empty, "--tissues", few, "--output-dir", run]
    refused("train", *of_momenta, message="a data set of momenta is trained on alone")
    refused("train", *more, recipe, "--name", "a/b", message="is not a file name")
    refused("train", *more, recipe, "--name", "run", message="run.json: is given for two outputs")
    file = tmp_path / "file"
    file.touch()
    more[more.index(run)] = file
    refused("train", *more, recipe, message="is not a folder")


def test_memory_that_does_not_suffice(label_maps, recipe, tmp_path, monkeypatch, capsys):
    import torch

    from nipype_quicksilver.training.end_to_end import EndToEndTrainer

    step = EndToEndTrainer.step

    def greedy(self):
        if self.iteration == 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB")
        return step(self)

    monkeypatch.setattr(EndToEndTrainer, "step", greedy)
    folder = tmp_path / "run"
    assert main(arguments(label_maps, recipe, folder, "--save-every", "1")) == 2
    message = capsys.readouterr().err
    assert "its memory does not suffice for this network and grid" in message
    assert torch.load(folder / "state.pt", weights_only=True)["training"]["iteration"] == 3


def test_divergence_is_noticed(label_maps, recipe, tmp_path, monkeypatch, capsys):
    import torch

    from nipype_quicksilver.training.end_to_end import EndToEndTrainer

    step = EndToEndTrainer.step

    def diverge(self):
        losses = step(self)
        if self.iteration == 2:
            next(self.network.parameters()).data.fill_(torch.nan)
        return losses

    monkeypatch.setattr(EndToEndTrainer, "step", diverge)
    folder = tmp_path / "run"
    assert main(arguments(label_maps, recipe, folder, "--save-every", "1")) == 1
    assert "the training diverged" in capsys.readouterr().err
    assert torch.load(folder / "state.pt", weights_only=True)["training"]["iteration"] == 1


def test_progress_in_a_log(label_maps, recipe, tmp_path, capsys):
    line = arguments(label_maps, recipe, tmp_path / "run")
    line.remove("--quiet")
    assert main(line) == 0
    captured = capsys.readouterr()
    assert "quicksilver: reading 4 label maps\n" in captured.err
    assert "quicksilver: iteration 6 of 6, loss " in captured.err and " left\n" in captured.err
    assert f"Checkpoint: {tmp_path / 'run' / 'prediction.safetensors'}\n" in captured.out


def test_tensorboard(label_maps, recipe, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert main(arguments(label_maps, recipe, tmp_path / "run")) == 0
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("training/loss")] == [1, 2, 3, 4, 5, 6]
    assert [event.step for event in events.Scalars("validation/overlap")] == [0, 3, 6]


def test_without_tensorboard(label_maps, recipe, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert main(arguments(label_maps, recipe, tmp_path / "run", "--iterations", "1")) == 0
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_two_processes(label_maps, recipe, tmp_path):
    """Two processes average their gradients: one iteration is Adam's step along the mean."""
    import torch

    content = json.loads(recipe.read_text())
    # Without the rounding of bfloat16 and without clipping, which each process does after the mean.
    content["training"] |= {"iterations": 1, "low_precision": False, "clipping": 1e9}
    path = tmp_path / "exact.json"
    path.write_text(json.dumps(content))
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    folder = tmp_path / "run"
    line += ["-m", "nipype_quicksilver", *arguments(label_maps, path, folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(line, capture_output=True, text=True, env=environment, timeout=500)
    assert done.returncode == 0, done.stderr
    card = json.loads((folder / "prediction.json").read_text())
    assert card["training"]["processes"] == 2
    assert card["validation"]["after"].keys() == card["validation"]["before"].keys()

    network = mean_step(path, label_maps)
    weights_of_two = torch.load(folder / "state.pt", weights_only=True)["training"]["network"]
    for name, weights in network.state_dict().items():
        torch.testing.assert_close(weights_of_two[name], weights, rtol=0, atol=2e-5)


def mean_step(recipe, label_maps):
    """Return the network after Adam's first step along the mean gradient of two pairs."""
    import torch

    from nipype_quicksilver.networks.checkpoint import build_network
    from nipype_quicksilver.training.data import Files
    from nipype_quicksilver.training.end_to_end import EndToEndTrainer
    from nipype_quicksilver.training.reading import read_brains
    from nipype_quicksilver.training.recipes import read_plan
    from nipype_quicksilver.training.tissues import read_tissue_table

    plan, table = read_plan(recipe), read_tissue_table()
    files = Files(label_maps[:2], label_maps[2:])
    brains, _ = read_brains(files, table, plan.grid, plan.training.factor)
    torch.manual_seed(plan.training.seed)
    network = build_network("force-unet", plan.parameters)
    gradients = []
    for rank in range(2):
        trainer = EndToEndTrainer(network, brains, table, plan.training, rank=rank, ranks=2)
        trainer.optimizer.step = lambda: gradients.append(
            [weights.grad.clone() for weights in network.parameters()]
        )
        trainer.step()
    for weights, *both in zip(network.parameters(), *gradients, strict=True):
        weights.grad = torch.stack(both).mean(dim=0)
    rate = plan.training.learning_rate / plan.training.warm_up
    torch.optim.Adam(network.parameters(), lr=rate).step()
    return network
