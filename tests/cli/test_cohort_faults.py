"""Broken files, killed processes and other runs: one image fails, nothing else."""

import os
import signal
import time

import numpy as np
import pytest

from nipype_quicksilver.cli.main import main
from nipype_quicksilver.interfaces import RegistrationReport
from nipype_quicksilver.spatial.images import write_image
from tests.helpers.simulation import simulate, start, write_outputs, write_page

#: Options with which nothing is computed.
BARE = ("--brain-extraction", "none", "--affine", "none", "--method", "predict")


def write_table(folder, rows):
    """Write images and a table of them; a row is the name of an image and further columns."""
    lines = ["participant_id\timage\tmask\tlabels"]
    for number, (image, *more) in enumerate(rows, start=1):
        lines.append("\t".join((f"{number:02d}", image, *more, *["n/a"] * (2 - len(more)))))
        if image.startswith("good"):
            write_image(folder / image, np.full((4, 4, 4), number, np.float32), np.eye(4))
    (folder / "images.tsv").write_text("\n".join(lines) + "\n")
    return folder / "images.tsv"


def run(table, out, *more):
    return main([str(word) for word in ("cohort", table, out, "participant", *BARE, *more)])


def done(out):
    return {path.parts[-3] for path in out.glob("sub-*/anat/*_registration.json")}


@pytest.fixture(params=["MultiProc", "Linear"])
def plugin(request):
    words = ["--plugin", request.param]
    return [*words, "--n-procs", "1"] if request.param == "MultiProc" else words


def test_broken_images_fail_alone(plugin, tmp_path, monkeypatch, capsys):
    simulate(monkeypatch)
    (tmp_path / "link.nii.gz").symlink_to(".git/annex/objects/Xx/Yy/key.nii.gz")
    (tmp_path / "folder.nii.gz").mkdir()
    rows = [("link.nii.gz",), ("good2.nii.gz",), ("folder.nii.gz",), ("good4.nii.gz", "no.nii")]
    rows += [("good5.nii.gz", "n/a", "nothing.nii"), ("a" * 300 + ".nii.gz",), ("good7.nii.gz",)]
    reasons = {
        1: "link.nii.gz: is a link whose target is missing",
        3: "folder.nii.gz: is a folder",
        4: "no.nii: no such file; check the path of the mask",
        5: "nothing.nii: no such file; check the path of the labels",
        6: ".nii.gz: cannot be read (File name too long)",
    }
    if os.geteuid() != 0:
        rows.append(("good8.nii.gz",))
        reasons[8] = "good8.nii.gz: cannot be read (Permission denied)"
    table = write_table(tmp_path, rows)
    if 8 in reasons:
        (tmp_path / "good8.nii.gz").chmod(0)
    out = tmp_path / "out"
    assert run(table, out, *plugin) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("failed: ")]
    assert done(out) == {"sub-02", "sub-07"}
    assert len(lines) == len(reasons)
    for line, (number, reason) in zip(lines, reasons.items(), strict=True):
        assert line.startswith(f"failed: sub-{number:02d}_to-MNI152NLin2009aSym: ")
        assert reason in line


def test_an_image_that_is_not_fetched_in_a_data_set(plugin, tmp_path, monkeypatch, capsys):
    pytest.importorskip("bids")
    simulate(monkeypatch)
    for number in (1, 2, 3):
        anat = tmp_path / "bids" / f"sub-0{number}" / "anat"
        anat.mkdir(parents=True)
        image = anat / f"sub-0{number}_T1w.nii.gz"
        write_image(image, np.full((4, 4, 4), number, np.float32), np.eye(4))
    description = tmp_path / "bids" / "dataset_description.json"
    description.write_text('{"Name": "x", "BIDSVersion": "1.8.0"}')
    first = tmp_path / "bids" / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    first.unlink()
    first.symlink_to("../../.git/annex/objects/key.nii.gz")
    odd = tmp_path / "bids" / "sub-02" / "anat" / "sub-02_acq-$(x)_T1w.nii.gz"
    (odd.with_name("sub-02_T1w.nii.gz")).rename(odd)
    folder = tmp_path / "bids" / "sub-04" / "anat" / "sub-04_T1w.nii.gz"
    folder.mkdir(parents=True)
    assert run(tmp_path / "bids", tmp_path / "out", *plugin) == 1
    log = capsys.readouterr().err
    assert done(tmp_path / "out") == {"sub-03"}
    assert f"failed: sub-04_to-MNI152NLin2009aSym: {folder}: is a folder" in log
    assert f"{first}: is a link whose target is missing" in log
    assert f"{odd}: the name has characters other than" in log


def test_files_that_vanish_during_the_run(plugin, tmp_path, monkeypatch, capsys):
    """The first command removes the files of later images."""

    def command(node, runtime):
        if "good1" in node.inputs.moving_image:
            for name in ("good2.nii.gz", "mask3.nii.gz"):
                (tmp_path / name).unlink()
        return write_outputs(node, runtime)

    simulate(monkeypatch, command)
    rows = [(f"good{n}.nii.gz", f"mask{n}.nii.gz", f"mask{n}.nii.gz") for n in (1, 2, 3, 4)]
    table = write_table(tmp_path, rows)
    for n in (1, 2, 3, 4):
        write_image(tmp_path / f"mask{n}.nii.gz", np.ones((4, 4, 4), np.uint8), np.eye(4))
    assert run(table, tmp_path / "out", *plugin) == 1
    assert done(tmp_path / "out") >= {"sub-01", "sub-04"}
    log = capsys.readouterr().err
    assert "failed: sub-02" in log and "failed: sub-03" in log
    for name in ("good2.nii.gz", "mask3.nii.gz"):
        assert f"{tmp_path / name}: no such file" in log


def test_no_image_that_can_be_read(tmp_path, refused):
    table = write_table(tmp_path, [("no.nii.gz",), ("nothing.nii.gz",)])
    message = f"no image can be registered; the first one: {tmp_path}/no.nii.gz: no such file"
    refused("cohort", table, tmp_path / "out", "participant", *BARE, message=message)


@pytest.mark.parametrize("victim", ["worker", "command"])
def test_a_killed_process_is_a_failure_and_the_rest_is_done(victim, tmp_path, monkeypatch, capsys):
    def command(node, runtime):
        if "good2" in node.inputs.moving_image:
            if victim == "worker":
                os.kill(os.getpid(), signal.SIGKILL)
            runtime.returncode = -signal.SIGKILL
            runtime.cmdline, runtime.stdout, runtime.stderr = "quicksilver register", "", ""
            node.raise_exception(runtime)
        return write_outputs(node, runtime)

    simulate(monkeypatch, command)
    table, out = write_table(tmp_path, [(f"good{n}.nii.gz",) for n in (1, 2, 3)]), tmp_path / "out"
    assert run(table, out, "--n-procs", "1") == 1
    log = capsys.readouterr().err
    assert done(out) == {"sub-01", "sub-03"}
    assert "failed: sub-02_to-MNI152NLin2009aSym: its process was killed, probably because" in log
    assert "2 of 3 done, 0 running, 1 failed" in log
    simulate(monkeypatch)
    assert run(table, out, "--n-procs", "1") == 0
    assert "1 to register, 2 done already" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_within_a_node_is_not_its_failure(number, code, tmp_path, monkeypatch, capsys):
    """The report is computed in the process of the driver, where Nipype swallows interrupts."""

    def page(node, runtime):
        pages.append(node)
        signal.raise_signal(number)
        return write_page(node, runtime)

    pages = []
    simulate(monkeypatch)
    monkeypatch.setattr(RegistrationReport, "_run_interface", page)
    table, out = write_table(tmp_path, [("good1.nii.gz",), ("good2.nii.gz",)]), tmp_path / "out"
    assert run(table, out, "--plugin", "Linear") == code
    log = capsys.readouterr().err
    assert len(pages) == 1 and not list((out / "logs").glob("*"))
    assert "1 failed" not in log and "failed:" not in log
    simulate(monkeypatch)
    assert run(table, out, "--plugin", "Linear") == 0
    assert done(out) == {"sub-01", "sub-02"}


@pytest.mark.parametrize("plugin", ["MultiProc", "Linear"])
def test_an_interrupted_driver_does_not_wait_for_its_jobs(plugin, tmp_path):
    table, out = write_table(tmp_path, [("good1.nii.gz",)]), tmp_path / "out"
    words = ["cohort", table, out, "participant", *BARE, "--plugin", plugin]
    run = start(words, 60)
    while run.poll() is None and not list(out.glob("work/**/register/_inputs.pklz")):
        time.sleep(0.1)
    time.sleep(0.5)
    run.send_signal(signal.SIGINT)  # to the driver alone
    message = run.communicate(timeout=50)[1]
    assert run.returncode == 130, message
    assert message.splitlines()[-1].startswith("quicksilver: error: interrupted")
