import argparse
import importlib
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from nipype_quicksilver import __version__
from nipype_quicksilver.cli import common, messages
from nipype_quicksilver.cli.main import COMMANDS, build_parser, main
from nipype_quicksilver.errors import InputError, QuicksilverError
from nipype_quicksilver.spatial import files


@pytest.fixture
def command(monkeypatch):
    """A function that runs a sub-command `try` whose body is given."""
    module = importlib.import_module("nipype_quicksilver.cli.main")

    def run(body, *options):
        class Command:
            @staticmethod
            def add_parser(subparsers):
                parser = common.add_command(subparsers, "try", summary="", description="")
                parser.set_defaults(run=body)

        monkeypatch.setattr(module, "COMMANDS", (Command,))
        return main(["try", *options])

    return run


def raising(error):
    def body(args):
        raise error

    return body


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"quicksilver {__version__}\n"
    assert main(["apply", "--version"]) == 0
    assert capsys.readouterr().out == f"quicksilver {__version__}\n"


def test_help_names_every_command(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    names = [module.__name__.rsplit(".", 1)[1].replace("_", "-") for module in COMMANDS]
    assert all(f"  {name} " in text for name in names)


def test_every_command_has_the_common_options():
    actions = build_parser()._subparsers._group_actions[0].choices
    assert len(actions) == len(COMMANDS)
    for parser in actions.values():
        options = set(parser._option_string_actions)
        assert options >= {"--quiet", "--verbose", "--num-threads", "--device", "--seed"}
        assert options >= {"--work-dir", "--version", "--help"}
        assert parser.get_default("run") is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: COMMAND"),
        (["nonsense"], "nonsense"),
        (["evaluate", "--nonsense"], "--nonsense"),
        (["evaluate", "--quiet", "--verbose"], "--verbose"),
        (["evaluate", "--num-threads", "0"], "'0' is not a whole number of at least 1"),
        (["evaluate", "--num-threads", "two"], "'two' is not a whole number"),
        (["evaluate", "--seed", "-1"], "--seed"),
        (["evaluate", "--seed", "1.5"], "'1.5' is not a whole number"),
        (["evaluate", "--device", "gpu"], "give auto, cpu, cuda, cuda:N"),
        (["evaluate", "--num-thread", "1"], "--num-thread"),
    ],
)
def test_usage_errors_are_one_line(arguments, message, capsys):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("quicksilver: error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("a.nii: is\n  empty"), 2, "a.nii: is empty"),
        (QuicksilverError("no convergence"), 1, "no convergence"),
        (
            RuntimeError("broken"),
            1,
            "RuntimeError: broken (run again with --verbose for the traceback)",
        ),
        (MemoryError(), 1, "out of memory"),
        (
            RuntimeError("CUDA out of memory. Tried to allocate 28.00 MiB. GPU 0 has ..."),
            1,
            "out of memory on the GPU; free some, or compute with --device cpu",
        ),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_errors_and_exit_codes(command, error, code, line, capsys):
    assert command(raising(error)) == code
    assert capsys.readouterr().err == f"quicksilver: error: {line}\n"


@pytest.mark.parametrize(
    ("number", "code", "line"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "ended by the signal SIGTERM"),
        (signal.SIGHUP, 129, "ended by the signal SIGHUP"),
    ],
)
def test_signals_end_the_command_after_its_clean_up(command, number, code, line, capsys, tmp_path):
    def body(args):
        with common.work_dir(args) as folder, files.staged(tmp_path / "x.json") as path:
            (folder / "file").touch()
            path.touch()
            seen.extend([folder, path])
            signal.raise_signal(number)

    seen = []
    assert command(body) == code
    assert capsys.readouterr().err == f"quicksilver: error: {line}\n"
    assert len(seen) == 2 and not any(path.exists() for path in seen)


# Interrupts the program before its first own import, or when the result is complete.
_INTERRUPTED = """
import os, signal, sys
import nipype_quicksilver.__main__ as program

class Interrupt:
    def find_spec(self, name, *_):
        if name == "nipype_quicksilver.cli.main":
            os.kill(os.getpid(), int(sys.argv.pop(1)))

sys.meta_path.insert(0, Interrupt())
code = program.main()
os.kill(os.getpid(), signal.SIGINT)
sys.exit(code)
"""


@pytest.mark.parametrize(
    ("number", "code", "line"),
    [
        (signal.SIGINT, 130, "quicksilver: error: interrupted before it began\n"),
        (signal.SIGTERM, 143, "quicksilver: error: interrupted before it began\n"),
        (0, 0, ""),  # only after the result
    ],
)
def test_interrupts_before_and_after_a_command_show_no_traceback(number, code, line):
    words = [sys.executable, "-c", _INTERRUPTED, str(int(number)), "--version"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (code, line)


def test_names_do_not_act_on_the_terminal(command, capsys):
    name = "a\x1b[2J\x9b1m\u202eb\udcff.nii"

    def body(args):
        common.logger.warning("%s: strange", name)
        messages.print_path("Files", Path(name))
        raise InputError(f"{name}: is empty")

    assert command(body) == 2
    captured = capsys.readouterr()
    shown = r"a\x1b[2J\x9b1m\u202eb\udcff.nii"
    assert captured.out == f"Files: {shown}\n"
    assert captured.err == (
        f"quicksilver: warning: {shown}: strange\nquicksilver: error: {shown}: is empty\n"
    )
    assert main([f"--{name}"]) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_verbose_shows_the_traceback(command, capsys):
    assert command(raising(InputError("unusable")), "--verbose") == 2
    text = capsys.readouterr().err
    assert "Traceback" in text
    assert text.endswith("quicksilver: error: unusable\n")


def test_warnings_are_one_line_in_the_log(command, capsys):
    def body(args):
        warnings.warn("a.nii: 2 voxels\nare NaN", UserWarning, stacklevel=1)
        common.logger.info("details")
        return 0

    before = warnings.showwarning
    assert command(body, "--quiet") == 0
    assert capsys.readouterr().err == "quicksilver: warning: a.nii: 2 voxels are NaN\n"
    assert command(body) == 0
    assert capsys.readouterr().err.endswith("quicksilver: details\n")
    assert warnings.showwarning is before
    assert common.logger.handlers == []


def test_threads_default_to_the_cpus_of_the_process(command):
    seen = []
    command(lambda args: seen.append(args.num_threads) or 0)
    command(lambda args: seen.append(args.num_threads) or 0, "--num-threads", "7")
    assert seen == [len(os.sched_getaffinity(0)), 7]


def test_torch_gets_threads_and_seed():
    import torch

    before = torch.get_num_threads()
    try:
        args = argparse.Namespace(num_threads=1, seed=5, device="cpu")
        assert common.start_torch(args).type == "cpu"
        assert torch.get_num_threads() == 1
        first = torch.rand(3)
        common.start_torch(args)
        assert torch.equal(first, torch.rand(3))
    finally:
        torch.set_num_threads(before)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch, command, capsys):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for device in ("cuda", "cuda:1"):
        args = argparse.Namespace(num_threads=torch.get_num_threads(), seed=0, device=device)
        with pytest.raises(InputError, match=f"device {device}: .* 0 GPUs; use cpu or auto"):
            common.start_torch(args)
    assert command(lambda args: 0, "--device", "cuda") == 2
    assert "error: device cuda: torch" in capsys.readouterr().err
    args.device = "auto"
    assert common.start_torch(args).type == "cpu"


def test_work_dir(tmp_path, monkeypatch):
    with common.work_dir(argparse.Namespace(work_dir=None)) as folder:
        assert folder.is_dir()
    assert not folder.exists()
    kept = tmp_path / "a" / "b"
    with common.work_dir(argparse.Namespace(work_dir=kept)) as folder:
        assert kept.stat().st_mode & 0o777 == 0o700
        assert folder == kept
    assert kept.is_dir()
    (tmp_path / "file").touch()
    with (
        pytest.raises(InputError, match="give another --work-dir"),
        common.work_dir(argparse.Namespace(work_dir=tmp_path / "file")),
    ):
        pass
    monkeypatch.setattr(os, "access", lambda *_: False)
    with (
        pytest.raises(InputError, match="cannot be written to"),
        common.work_dir(argparse.Namespace(work_dir=kept)),
    ):
        pass


def test_the_installed_command(tmp_path):
    code = "import sys; from nipype_quicksilver.cli.main import main; sys.exit(main())"
    arguments = ["apply", "--input", "no.nii", "--transform", "no.mat", "--reference", "no.nii"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--output", "out.nii.gz"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        "quicksilver: error: no.mat: no such file; check the path of the transform\n"
    )
    assert list(tmp_path.iterdir()) == []
