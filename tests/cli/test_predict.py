"""`quicksilver predict`, and the networks of the other commands."""

import errno
import json

import nibabel as nib
import numpy as np

from nipype_quicksilver.cli.main import main
from nipype_quicksilver.spatial.grids import Grid


def arguments(conformed_pair):
    return [f"--{name.replace('_', '-')}={path}" for name, path in conformed_pair.items()]


def test_predict_and_refine_by_commands(conformed_pair, tiny_networks, tmp_path, capsys, refused):
    files = [
        f"--{name.replace('_', '-')}={tiny_networks[name]}" for name in list(tiny_networks)[:2]
    ]
    common = [*arguments(conformed_pair), "--device=cpu", "--num-threads=1"]
    output = tmp_path / "momentum.nii.gz"
    summary_file = tmp_path / "momentum.json"
    run = ["predict", *common, *files, f"--output={output}", f"--output-json={summary_file}"]
    refused(
        *run, "--corrections=0", message="correction.safetensors: is not used with 0 corrections"
    )
    assert main([arg for arg in run if arg != files[1]] + ["--corrections=0"]) == 0
    assert "local correlation" in capsys.readouterr().err
    summary = json.loads(summary_file.read_text())
    assert summary["parameters"]["method"] == "predict"
    assert summary["inputs"]["fixed"] == str(conformed_pair["fixed"])
    assert main([*run, "--quiet", "--corrections", "2"]) == 0
    assert json.loads(summary_file.read_text())["parameters"]["corrections"] == 2
    refine = [f"--initial-momentum={output}", "--schedule=refine", "--iterations=2", "--quiet"]
    json_file = tmp_path / "refined.json"
    written = [f"--output={tmp_path / 'refined.nii.gz'}", f"--output-json={json_file}"]
    assert main(["optimize", *common, *refine, *written]) == 0
    assert [s["iterations"] for s in json.loads(json_file.read_text())["stages"]] == [2]


def test_samples_by_command(conformed_pair, tiny_networks, tmp_path, refused, capsys):
    run = [*arguments(conformed_pair), f"--prediction-network={tiny_networks['probabilistic']}"]
    run += [f"--output={tmp_path / 'momentum.nii.gz'}", "--corrections=0", "--device=cpu"]
    outputs = [tmp_path / "uncertainty.nii.gz", tmp_path / "components.nii.gz"]
    files = [f"--output-uncertainty={outputs[0]}", f"--output-uncertainty-components={outputs[1]}"]
    refused(
        "predict", *run, *files, message=f"{outputs[0]}: there is no uncertainty without samples"
    )
    assert main(["predict", *run, *files, "--samples=2"]) == 0
    printed = capsys.readouterr().err
    assert "1 of 2 samples" in printed and "2 of 2 samples" in printed
    whole, parts = (np.asanyarray(nib.load(path).dataobj) for path in outputs)
    assert whole.max() > 0
    np.testing.assert_allclose(whole, np.sqrt(parts.sum(axis=-1)), rtol=1e-5)
    assert Grid.from_file(outputs[0]).equals(Grid.from_file(conformed_pair["fixed"]))


def test_a_full_disk_leaves_nothing_of_a_prediction(
    conformed_pair, tiny_networks, tmp_path, monkeypatch
):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("nipype_quicksilver.spatial.files.json.dumps", full)
    run = [
        *arguments(conformed_pair),
        f"--prediction-network={tiny_networks['prediction_network']}",
    ]
    outputs = [f"--output={tmp_path / 'm.nii.gz'}", f"--output-json={tmp_path / 'm.json'}"]
    assert main(["predict", "--quiet", *run, *outputs, "--corrections=0", "--device=cpu"]) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_gpu_that_is_not_there_is_refused(pair, tiny_networks, tmp_path, refused):
    options = ["--method", "correct", "--device", "cuda:99"]
    options += ["--prediction-network", tiny_networks["prediction_network"]]
    files = ["--fixed", pair.fixed, "--moving", pair.moving, "--output-dir", tmp_path / "out"]
    refused("register", *files, *options, message="use cpu or auto")
