"""Jobs of both families: which data go with which networks and roles."""

import pytest

from nipype_quicksilver.data import shipped_recipe
from nipype_quicksilver.errors import InputError
from nipype_quicksilver.networks.checkpoint import ARCHITECTURES
from nipype_quicksilver.training.data import Data
from nipype_quicksilver.training.families import FAMILIES
from nipype_quicksilver.training.plan import Job
from nipype_quicksilver.training.recipes import read_plan

END_TO_END, ON_MOMENTA = (read_plan(shipped_recipe(name)) for name in ("prediction", "patch"))
LABELS = Data(labels=["a", "b"])
MOMENTA = Data(momenta="folder")


def test_families_are_those_of_the_architectures():
    assert set(FAMILIES) <= set(ARCHITECTURES)
    assert all(name == family.architecture for name, family in FAMILIES.items())


@pytest.mark.parametrize(
    "job",
    [
        Job(END_TO_END, LABELS),
        Job(END_TO_END, Data(images=["a"], validation_images=["b"])),
        Job(END_TO_END, LABELS, "correction", ["net.safetensors"]),
        Job(ON_MOMENTA, MOMENTA),
        Job(ON_MOMENTA, MOMENTA, "correction"),
    ],
)
def test_jobs(job):
    job.check()


@pytest.mark.parametrize(
    ("job", "message"),
    [
        (Job(END_TO_END, LABELS, "other"), "role 'other' is not known"),
        (Job(END_TO_END, Data()), "give label maps, images, or a data set"),
        (Job(END_TO_END, Data(labels=["a"], momenta="b")), "give label maps, images, or a data"),
        (Job(END_TO_END, MOMENTA), "folder: momenta are for patch networks"),
        (Job(ON_MOMENTA, LABELS), "a patch network is trained on momenta"),
        (Job(END_TO_END, LABELS, "correction"), "needs the networks before it"),
        (Job(END_TO_END, LABELS, before=["a"]), "needs the networks before it"),
        (Job(ON_MOMENTA, Data(momenta="f", tissues="t")), "f: a data set of momenta is trained"),
        (Job(ON_MOMENTA, MOMENTA, before=["a"]), "is trained on alone"),
        (Job(END_TO_END, Data(labels=["a"], validation_momenta="b")), "give those too"),
        (Job(END_TO_END, Data(labels=["a"], validation_images=["b"])), "give those too"),
        (Job(END_TO_END, Data(images=["a"], validation_labels=["b"])), "give those too"),
    ],
)
def test_jobs_that_are_refused(job, message):
    with pytest.raises(InputError, match=message):
        job.check()
