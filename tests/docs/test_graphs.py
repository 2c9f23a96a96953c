"""The graphs of workflows in the documentation: drawn with Graphviz, listed without."""

import shutil

import pytest

from tests.helpers.blocks import ROOT

pytest.importorskip("sphinx")

PAGE = """\
Graph
=====

.. workflow-graph:: init_affine_wf

   omp_nthreads=1
"""


@pytest.mark.parametrize("with_dot", [True, False])
def test_graph(with_dot, tmp_path, monkeypatch):
    from sphinx.cmd.build import main

    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    if with_dot and shutil.which("dot") is None:
        pytest.skip("Graphviz' dot is not installed")
    if not with_dot:
        monkeypatch.setenv("PATH", str(tmp_path))
    source, output = tmp_path / "source", tmp_path / "html"
    source.mkdir()
    (source / "conf.py").write_text('extensions = ["workflow_graphs"]\n')
    (source / "index.rst").write_text(PAGE)
    assert main(["-q", "-W", "-b", "html", str(source), str(output)]) == 0
    html = (output / "index.html").read_text()
    assert "inputnode -&gt; align" in html  # in the picture's description, or listed
    drawn = list(output.glob("_images/init_affine_wf-*.svg"))
    assert len(drawn) == with_dot
    assert ("Graphviz is not installed" in html) != with_dot
