"""Nipype interfaces, named as in `nipype.interfaces.ants` if they have the same purpose.

Numerical libraries are imported when a node runs; torch only in the command that a node starts.
"""

from nipype_quicksilver.interfaces.checks import CheckRegistration
from nipype_quicksilver.interfaces.conform import ConformToGrid, NormalizeIntensity, UnifyForms
from nipype_quicksilver.interfaces.evaluation import (
    MeasureRegistration,
    SummarizeEvaluation,
    TimePrediction,
)
from nipype_quicksilver.interfaces.labels import FuseLabels, LabelVolumes
from nipype_quicksilver.interfaces.lddmm import (
    OptimizeMomentum,
    PredictMomentum,
    ShootGeodesic,
)
from nipype_quicksilver.interfaces.measures import (
    JacobianSummary,
    LabelOverlap,
    TransformDistance,
    UncertaintyOnImage,
)
from nipype_quicksilver.interfaces.preprocessing import (
    AffineRegistration,
    BrainExtraction,
    ConvertAffine,
)
from nipype_quicksilver.interfaces.registration import QuicksilverRegistration
from nipype_quicksilver.interfaces.report import RegistrationReport
from nipype_quicksilver.interfaces.training import BuildMomentumDataset, TrainNetwork
from nipype_quicksilver.interfaces.transforms import ApplyTransforms, ComposeTransforms

__all__ = [
    "AffineRegistration",
    "ApplyTransforms",
    "BrainExtraction",
    "BuildMomentumDataset",
    "CheckRegistration",
    "ComposeTransforms",
    "ConformToGrid",
    "ConvertAffine",
    "FuseLabels",
    "JacobianSummary",
    "LabelOverlap",
    "LabelVolumes",
    "MeasureRegistration",
    "NormalizeIntensity",
    "OptimizeMomentum",
    "PredictMomentum",
    "QuicksilverRegistration",
    "RegistrationReport",
    "ShootGeodesic",
    "SummarizeEvaluation",
    "TimePrediction",
    "TrainNetwork",
    "TransformDistance",
    "UncertaintyOnImage",
    "UnifyForms",
]
