"""The plot of a training."""

import numpy as np
from PIL import Image

from nipype_quicksilver.training.curve import draw_curve


def test_plots(tmp_path):
    """There is a panel for the loss, and one for each measure of the validation."""
    log = [{"iteration": str(k), "loss": str(1 / k)} for k in range(1, 3000)]
    plain = draw_curve(tmp_path / "plain.png", log, [])
    rows = [{"iteration": str(k), "loss": "1", "overlap": "0.5"} for k in (0, 1, 2)]
    measured = draw_curve(tmp_path / "measured.png", log, rows)
    widths = [Image.open(path).size[0] for path in (plain, measured)]
    assert widths[1] == 2 * widths[0]
    assert len(np.unique(np.asarray(Image.open(plain)).reshape(-1, 4), axis=0)) > 10


def test_a_training_without_finished_iterations(tmp_path):
    assert draw_curve(tmp_path / "curve.png", [], []).read_bytes().startswith(b"\x89PNG")
