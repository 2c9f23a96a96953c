"""Where the cuts of a picture lie."""

import numpy as np

from nipype_quicksilver.reports.cuts import panels
from nipype_quicksilver.spatial.grids import Grid, index_box


def test_cuts_go_through_the_brain():
    """A small brain fills a tenth of its image; every cut shows it."""
    grid = Grid((60, 70, 50), np.eye(4))
    inside = np.zeros(grid.shape, bool)
    inside[40:52, 8:20, 30:40] = True
    placed, _ = panels(grid, index_box(inside))
    assert len(placed) == 14 and all(panel.plane(inside).any() for panel in placed)
    everywhere, _ = panels(grid)
    assert not all(panel.plane(inside).any() for panel in everywhere)
