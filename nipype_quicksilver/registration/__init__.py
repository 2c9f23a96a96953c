"""Registration of a pair of images, from files to files: the Python API.

Importing this package does not import torch; registering does.
"""

from nipype_quicksilver.registration.pipeline import register
from nipype_quicksilver.registration.results import Registration

__all__ = ["Registration", "register"]
