"""Small brains as fractions of classes, for the tests of training."""

import torch

from nipype_quicksilver.training.tissues import TissueTable

SIDE = 16  # voxels of 2 mm
TISSUES = TissueTable(
    labels=(1, 2, 3, 4),
    groups=(0, 0, 1, 2),
    t1w=(0.9, 0.6, 0.2),
    t2w=(0.4, 0.7, 1.0),
    scored=3,
)


def make_brain(shift=0.0):
    """Return (4, 16, 16, 16): left and right shell, core, rim; shifted by some voxels."""
    axis = torch.arange(SIDE) - (SIDE - 1) / 2
    x, y, z = torch.meshgrid(axis - shift, axis, axis, indexing="ij")
    radius = (x.square() + 1.2 * y.square() + z.square()).sqrt()
    core, inner, outer = (torch.sigmoid(3 * (limit - radius)) for limit in (2.5, 4.5, 5.5))
    side = torch.sigmoid(2 * x)
    return torch.stack([(inner - core) * side, (inner - core) * (1 - side), core, outer - inner])
