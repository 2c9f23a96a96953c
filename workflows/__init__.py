"""Nipype workflows: builders named `init_<thing>_wf`."""

from nipype_quicksilver.workflows.registration import init_quicksilver_wf
from nipype_quicksilver.workflows.training import init_training_wf

__all__ = ["init_quicksilver_wf", "init_training_wf"]
