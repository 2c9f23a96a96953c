"""Nipype workflows: builders named `init_<thing>_wf`."""

from nipype_quicksilver.workflows.evaluation import init_evaluation_wf
from nipype_quicksilver.workflows.labels import init_label_propagation_wf
from nipype_quicksilver.workflows.preprocessing import (
    init_affine_wf,
    init_brain_extraction_wf,
    init_preprocessing_wf,
)
from nipype_quicksilver.workflows.registration import init_quicksilver_wf
from nipype_quicksilver.workflows.templates import init_template_registration_wf
from nipype_quicksilver.workflows.training import init_training_wf

__all__ = [
    "init_affine_wf",
    "init_brain_extraction_wf",
    "init_evaluation_wf",
    "init_label_propagation_wf",
    "init_preprocessing_wf",
    "init_quicksilver_wf",
    "init_template_registration_wf",
    "init_training_wf",
]
