"""All tables and figures of an evaluation, in one folder."""

from collections.abc import Sequence

from nipype_quicksilver.evaluation import figures, tables
from nipype_quicksilver.evaluation.methods import REFERENCE
from nipype_quicksilver.execution.provenance import versions
from nipype_quicksilver.spatial.files import PathLike, write_json
from nipype_quicksilver.spatial.folders import staged_folder


def write_report(
    folder: PathLike,
    found: Sequence[tables.Measured],
    times: Sequence[tables.Row] = (),
) -> None:
    """Write tables and figures; all of them or none.

    Parameters
    ----------
    folder : path-like
        Made if needed; files of the same names are replaced.
    found : sequence of Measured
        Of every method on every pair.
    times : sequence of dict
        ``device``, ``threads`` and ``seconds`` of predictions.
    """
    measured = tables.measure_rows(found)
    histograms = tables.histogram_rows(found)
    written = {
        "measures": measured,
        "labels": tables.label_rows(found),
        "jacobians": histograms,
        "errors": tables.error_rows(found),
        "times": times,
        "summary": tables.summary_rows(found),
    }
    with staged_folder(folder) as stage:
        for name, rows in written.items():
            if rows:
                tables.write_table(stage / f"{name}.tsv", rows)
        figures.draw_overlap(stage / "overlap", measured)
        figures.draw_jacobians(stage / "jacobians", histograms, REFERENCE)
        if times:
            figures.draw_times(stage / "times", times)
        write_json(
            stage / "summary.json",
            {
                "versions": versions(),
                "reference": REFERENCE,
                "methods": written["summary"],
                "errors": written["errors"],
                "times": list(times),
            },
        )
