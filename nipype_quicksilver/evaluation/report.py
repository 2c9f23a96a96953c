"""All tables and figures of an evaluation, in one folder."""

from collections.abc import Sequence

from nipype_quicksilver.evaluation import figures, tables
from nipype_quicksilver.evaluation.methods import REFERENCE
from nipype_quicksilver.execution.provenance import versions
from nipype_quicksilver.spatial.files import PathLike, write_json
from nipype_quicksilver.spatial.folders import staged_folder


def write_report(
    folder: PathLike,
    measured: Sequence[tables.Measured],
    times: Sequence[tables.Row] = (),
) -> None:
    """Write tables and figures, all of them or none.

    Parameters
    ----------
    folder : path-like
        Created if needed; files of the same names are replaced.
    measured : sequence of Measured
        Measures of every method on every pair.
    times : sequence of dict
        ``device``, ``threads`` and ``seconds`` of predictions.
    """
    measures, histograms = tables.measure_rows(measured), tables.histogram_rows(measured)
    errors = tables.error_rows(measured)
    rows_of = {
        "measures": measures,
        "labels": tables.label_rows(measured),
        "jacobians": histograms,
        "errors": errors,
        "times": times,
        "summary": tables.summary_rows(measured, errors),
    }
    with staged_folder(folder) as stage:
        for name, rows in rows_of.items():
            if rows:
                tables.write_table(stage / f"{name}.tsv", rows)
        figures.draw_overlap(stage / "overlap", measures)
        figures.draw_jacobians(stage / "jacobians", histograms, REFERENCE)
        if times:
            figures.draw_times(stage / "times", times)
        write_json(
            stage / "summary.json",
            {
                "versions": versions(),
                "reference": REFERENCE,
                "methods": rows_of["summary"],
                "errors": errors,
                "times": list(times),
            },
        )
