"""Resources of nodes, on this machine and in batch systems."""

import json
from pathlib import Path

import pytest

from nipype_quicksilver.cohort.derivatives import Place
from nipype_quicksilver.cohort.images import CohortImage
from nipype_quicksilver.cohort.jobs import CohortOptions, plan
from nipype_quicksilver.cohort.plugins import read_arguments
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.execution import resources
from nipype_quicksilver.workflows import init_cohort_wf


@pytest.fixture
def nodes(tmp_path):
    """A function that returns the nodes of a cohort's workflow by their names."""

    image = CohortImage(tmp_path / "sub-01_T1w.nii.gz", "01", None, "sub-01", "T1w")
    image.path.touch()

    def build(**options):
        workflow = init_cohort_wf(
            jobs=plan([image], CohortOptions.of()),
            options=CohortOptions.of(),
            place=Place(Path("/out")),
            omp_nthreads=4,
            **options,
        )
        nodes = (workflow.get_node(name) for name in workflow.list_node_names())
        return {node.name: node for node in nodes}

    return build


def test_slurm_jobs_request_what_multiproc_counts(nodes):
    partitions = {"cpu_args": "--partition=cpu", "gpu_args": "--partition=gpu"}
    by_name = nodes(use_gpu=True)
    resources.set_job_arguments(by_name.values(), "SLURM", partitions, always="--comment=x")
    arguments = {name: node.plugin_args["sbatch_args"] for name, node in by_name.items()}
    assert by_name["register"].is_gpu_node()
    assert arguments["register"] == (
        "--comment=x --cpus-per-task=1 --mem=4096M --gres=gpu:1 --partition=gpu"
    )
    assert arguments["extract"] == "--comment=x --cpus-per-task=4 --mem=2048M --partition=cpu"
    for name in ("extract", "align", "register", "save"):
        node = by_name[name]
        assert f"--cpus-per-task={node.n_procs} --mem={node.mem_gb * 1024:.0f}M" in arguments[name]
    on_cpu = nodes()
    resources.set_job_arguments(on_cpu.values(), "SLURM", partitions)
    register = on_cpu["register"].plugin_args["sbatch_args"]
    assert register == "--cpus-per-task=4 --mem=4096M --partition=cpu"


@pytest.mark.parametrize(
    ("plugin", "name", "expected"),
    [
        ("SGE", "qsub_args", "-pe smp 4 -l h_vmem=1024M"),
        ("PBS", "qsub_args", "-l nodes=1:ppn=4 -l mem=4096mb"),
        ("LSF", "bsub_args", "-n 4 -R 'span[hosts=1]' -M 4096"),
    ],
)
def test_other_batch_systems(plugin, name, expected, nodes):
    by_name = nodes()
    resources.set_job_arguments(by_name.values(), plugin, {})
    assert by_name["register"].plugin_args == {name: expected}
    resources.set_job_arguments(
        by_name.values(), plugin, {"request": "-x {n_procs}:{mem_mb_per_proc}"}
    )
    assert by_name["register"].plugin_args == {name: "-x 4:1024"}


def test_braces_of_other_arguments_are_kept(nodes):
    by_name = nodes()
    arguments = {"cpu_args": "--export=ALL,DATA=${HOME}/data"}
    resources.set_job_arguments(by_name.values(), "SLURM", arguments)
    assert by_name["register"].plugin_args["sbatch_args"].endswith(arguments["cpu_args"])


def test_a_gpu_node_takes_one_slot(nodes):
    by_name = nodes(use_gpu=True)
    on_gpu = [node.name for node in by_name.values() if node.is_gpu_node()]
    assert on_gpu == ["register"]
    assert by_name["register"].n_procs == 1  # Nipype charges a GPU slot for each


def test_arguments_of_plugins(monkeypatch):
    monkeypatch.delenv("LOGNAME", raising=False)
    limits = {"n_procs": 8, "mem_gb": 16.0, "n_gpus": 2}
    arguments = resources.plugin_arguments("MultiProc", {"mp_context": "fork"}, **limits)
    expected = {"n_procs": 8, "n_gpu_procs": 2, "memory_gb": 16.0, "mp_context": "fork"}
    assert arguments == expected
    user_arguments = {"sbatch_args": "--account=lab", "gpu_args": "--partition=gpu"}
    arguments = resources.plugin_arguments("SLURM", user_arguments, **limits)
    assert arguments == {"max_jobs": resources.MAX_JOBS, "sbatch_args": "--account=lab"}
    assert "LOGNAME" in resources.os.environ
    assert resources.plugin_arguments("Linear", {}, **limits) == {}


@pytest.mark.parametrize(
    ("plugin", "text", "message"),
    [
        ("SLURM", "{", "is not JSON"),
        ("SLURM", "[1]", "is not a JSON object"),
        ("SLURM", {"sbatch": "x"}, "plugin SLURM has no 'sbatch'; give sbatch_args"),
        ("SLURM", {"qsub_args": "x"}, "plugin SLURM has no 'qsub_args'"),
        ("SLURM", {"max_jobs": "many"}, "max_jobs is many; give a whole number"),
        ("Linear", {"n_procs": 1}, "plugin Linear has no 'n_procs'"),
        ("SGE", {"request": "-pe {cpus}"}, r"request has \{cpus\}; give n_procs"),
        ("SGE", {"request": "-pe {"}, "is not a valid template"),
        ("SGE", {"request": "-pe {}"}, r"request has \{\}; give n_procs"),
        ("SGE", {"request": "-pe {n_procs:Q}"}, "is not a valid template"),
        ("SGE", {"gpu_request": "{mem_mb.real.x}"}, r"has \{mem_mb.real.x\}"),
        ("SGE", {"request": "{n_procs:>99999999}"}, "is longer than 3 characters"),
        ("SGE", {"request": 4}, "request is 4; give a text"),
        ("SLURM", {"cpu_args": ["-p", "cpu"]}, r"cpu_args is \['-p', 'cpu'\]; give a text"),
        ("SLURM", {"gpu_args": None}, "gpu_args is None; give a text"),
        ("SLURM", {"sbatch_args": 1}, "sbatch_args is 1; give a text"),
        ("SLURM", "[" * 100_000, "nested too deeply"),
        ("SLURM", '{"max_jobs": ' + "9" * 5000 + "}", "is too large"),
        ("SLURM", {"max_jobs": True}, "max_jobs is True; give a whole number"),
        ("SLURM", {"template": 3}, "template is 3; give a text"),
        ("SLURM", {"max_tries": "3"}, "max_tries is 3; give a whole number of at least 1"),
        ("SGE", {"retry_timeout": -1}, "retry_timeout is -1; give a whole number of at least 0"),
        ("SLURM", {"jobid_re": 1}, "jobid_re is 1; give a text"),
        ("SLURM", {"jobid_re": "job ("}, "with the number of the job in parentheses"),
        ("SLURM", {"jobid_re": "[0-9]*"}, "with the number of the job in parentheses"),
        ("PBS", {"max_jobname_len": None}, "max_jobname_len is None; give a whole number"),
        ("MultiProc", {"mp_context": "thread"}, "mp_context is thread; give one of"),
        ("MultiProc", {"mp_context": []}, r"mp_context is \[\]; give one of"),
        ("MultiProc", {"raise_insufficient": "no"}, "is no; give true or false"),
    ],
)
def test_files_of_arguments_that_cannot_be_used(plugin, text, message, tmp_path):
    path = tmp_path / "arguments.json"
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    with pytest.raises(InputError, match=message):
        read_arguments(path, plugin)


def test_a_file_of_arguments_that_can_be_used(tmp_path):
    path = tmp_path / "arguments.json"
    for plugin, content in (
        ("SLURM", {"template": "#!/bin/sh", "max_tries": 3, "jobid_re": "job ([0-9]+)"}),
        ("MultiProc", {"mp_context": "spawn", "scheduler": "tsort", "raise_insufficient": False}),
    ):
        path.write_text(json.dumps(content))
        assert read_arguments(path, plugin) == content


def test_limits_under_which_nothing_could_run(nodes):
    every = nodes().values()
    resources.check_limits(every, n_procs=4, mem_gb=4.0)
    with pytest.raises(InputError, match=r"--n-procs 2: .* uses 4 threads"):
        resources.check_limits(every, n_procs=2, mem_gb=None)
    with pytest.raises(InputError, match="--mem-gb 3: register needs 4 GB"):
        resources.check_limits(every, n_procs=4, mem_gb=3.0)


def test_visible_gpus(monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert resources.visible_gpus() == ["3", "5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert resources.visible_gpus() == []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    fake = tmp_path / "nvidia-smi"
    fake.write_text("#!/bin/sh\necho A100\necho A100\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert resources.visible_gpus() == ["0", "1"]
