"""Nipype interfaces, named as those of `nipype.interfaces.ants` where they do the same.

Numerical libraries are imported when a node runs; torch only in the command that a node starts.
"""

from nipype_quicksilver.interfaces.conform import ConformToGrid, NormalizeIntensity
from nipype_quicksilver.interfaces.lddmm import OptimizeMomentum, ShootGeodesic
from nipype_quicksilver.interfaces.measures import JacobianSummary, LabelOverlap
from nipype_quicksilver.interfaces.preprocessing import AffineRegistration, BrainExtraction
from nipype_quicksilver.interfaces.registration import QuicksilverRegistration
from nipype_quicksilver.interfaces.transforms import ApplyTransforms, ComposeTransforms

__all__ = [
    "AffineRegistration",
    "ApplyTransforms",
    "BrainExtraction",
    "ComposeTransforms",
    "ConformToGrid",
    "JacobianSummary",
    "LabelOverlap",
    "NormalizeIntensity",
    "OptimizeMomentum",
    "QuicksilverRegistration",
    "ShootGeodesic",
]
