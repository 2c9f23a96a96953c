"""A cohort on a real SLURM cluster; `run.sh` starts one and runs these tests."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nipype_quicksilver.cohort.derivatives import Place
from nipype_quicksilver.cohort.images import CohortImage
from nipype_quicksilver.cohort.jobs import CohortOptions, plan
from nipype_quicksilver.execution.resources import set_job_arguments
from nipype_quicksilver.workflows import init_cohort_wf
from tests.helpers.cohorts import FAST, break_image, derivative_images, write_data_set, write_fixed

pytestmark = pytest.mark.skipif(
    "QUICKSILVER_SLURM" not in os.environ, reason="needs a SLURM cluster: tests/slurm/run.sh"
)

EXAMPLES = Path(__file__).parents[2] / "examples"
_SECONDS = 90  # time limit of anything that is waited for


def slurm(*command):
    """Run a program of SLURM; return what it prints."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def wait_for(condition):
    """Return the first true value of a condition."""
    deadline = time.monotonic() + _SECONDS
    while not (value := condition()):
        assert time.monotonic() < deadline, "time limit exceeded"
        time.sleep(0.1)
    return value


def running(name):
    """Return the ids of the running jobs whose names contain a text."""
    listed = slurm("squeue", "--noheader", "--states=RUNNING", "--format=%i %j").splitlines()
    return [line.split()[0] for line in listed if name in line]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Folder of a data set of three participants, one of them broken, and of a fixed image."""
    folder = tmp_path_factory.mktemp("cohort")
    write_data_set(folder / "bids", 3)
    write_fixed(folder)
    break_image(folder / "bids", "sub-02")
    return folder


def start(cohort, out, *more):
    """Start a cohort in a process of its own."""
    words = ["cohort", cohort / "bids", out, "participant", *FAST, *more]
    words += ["--fixed", cohort / "tpl-Tiny_T1w.nii.gz"]
    command = [sys.executable, "-m", "nipype_quicksilver", *map(str, words)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def start_on_slurm(cohort, out, *more):
    return start(cohort, out, "--plugin", "SLURM", "--plugin-args", EXAMPLES / "slurm.json", *more)


@pytest.fixture(scope="module")
def on_slurm(cohort):
    """A run during which a job is cancelled: exit code, log, derivatives, and SLURM's job."""
    out = cohort / "slurm"
    run = start_on_slurm(cohort, out)
    (job,) = wait_for(lambda: running("register.sub-01"))
    requested = slurm("scontrol", "show", "job", job)
    slurm("scancel", job)
    log = run.communicate(timeout=3 * _SECONDS)[1]
    return run.returncode, log, out, requested


def test_jobs_request_what_nodes_need(on_slurm):
    requested = on_slurm[3]
    assert re.search(r"Partition=cpu\b", requested)
    assert re.search(r"CPUs/Task=1\b", requested)
    assert re.search(r"MinMemoryNode=4G\b", requested)
    assert re.search(r"TimeLimit=04:00:00\b", requested)


def test_a_cancelled_job_is_started_again_and_a_broken_image_reported(on_slurm):
    code, log, out, _ = on_slurm
    assert code == 1, log
    assert "1 jobs ended without a result: they are started again" in log
    assert "2 of 3 done" in log
    assert re.search(r"failed: sub-02_to-Tiny: .* truncated or damaged", log)
    assert {path.parts[-3] for path in out.glob("sub-*/anat/*.h5")} == {"sub-01", "sub-03"}


def test_the_same_bytes_as_on_one_machine(cohort, on_slurm):
    out = cohort / "multiproc"
    assert start(cohort, out, "--n-procs", 2, "--participant-label", "01", "03").wait() == 0
    images = derivative_images(out)
    assert len(images) == 4
    assert derivative_images(on_slurm[2]) == images


def test_a_job_that_is_cancelled_each_time_fails_alone_with_its_state(cohort, tmp_path):
    run = start_on_slurm(cohort, tmp_path, "--participant-label", "01", "03")
    deadline = time.monotonic() + 3 * _SECONDS
    while run.poll() is None:
        assert time.monotonic() < deadline, "time limit exceeded"
        for job in running("register.sub-01"):
            slurm("scancel", job)
        time.sleep(0.2)
    log = run.communicate()[1]
    assert run.returncode == 1, log
    assert "failed: sub-01_to-Tiny: its job ended without a result: CANCELLED" in log
    assert {path.parts[-3] for path in tmp_path.glob("sub-*/anat/*.h5")} == {"sub-03"}


def test_jobs_of_a_killed_run_are_cancelled(cohort, tmp_path):
    run = start_on_slurm(cohort, tmp_path, "--participant-label", "01")
    (left,) = wait_for(lambda: running("register.sub-01"))
    slurm("scontrol", "suspend", left)  # otherwise it may end before the next run finds it
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    again = start_on_slurm(cohort, tmp_path, "--participant-label", "01")
    log = again.communicate(timeout=3 * _SECONDS)[1]
    assert again.returncode == 0, log
    assert "JobState=CANCELLED" in slurm("scontrol", "show", "job", left)
    assert len(derivative_images(tmp_path)) == 2


def test_the_example_script(cohort, on_slurm, tmp_path):
    words = [cohort / "bids", on_slurm[2], "--participant-label", "01", "03", *FAST]
    words += ["--fixed", cohort / "tpl-Tiny_T1w.nii.gz"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["sbatch", "--wait", f"--output={tmp_path}/log", EXAMPLES / "cohort_slurm.sh", *words]
    done = subprocess.run(list(map(str, command)), cwd=EXAMPLES, env={**os.environ, "PATH": path})
    log = wait_for(lambda: (tmp_path / "log").exists() and (tmp_path / "log").read_text())
    assert done.returncode == 0, log
    assert "0 to register, 2 done already" in log
    assert len((on_slurm[2] / "group_registration.tsv").read_text().splitlines()) == 3


def test_slurm_gives_a_gpu_node_its_gpu(tmp_path):
    """The GPU of the cluster is simulated: only the environment of the job is checked."""
    image = CohortImage(tmp_path / "a.nii.gz", "01", None, "sub-01", "T1w")
    image.path.touch()
    options = CohortOptions.of(brain_extraction="none")
    jobs, place = plan([image], options), Place(tmp_path)
    workflow = init_cohort_wf(jobs=jobs, options=options, place=place, omp_nthreads=2, use_gpu=True)
    register = workflow.get_node(f"{jobs[0].name}.register")
    set_job_arguments([register], "SLURM", {"gpu_args": "--partition=gpu"})
    out = tmp_path / "environment.txt"
    words = register.plugin_args["sbatch_args"].split()
    show = "echo $CUDA_VISIBLE_DEVICES $SLURM_JOB_PARTITION $SLURM_CPUS_PER_TASK"
    slurm("sbatch", "--wait", *words, f"--output={out}", f"--wrap={show}")
    assert wait_for(lambda: out.exists() and out.read_text()).split() == ["0", "gpu", "1"]
