"""The node that reports a registration."""

from pathlib import Path

import pytest
from nipype import Node
from nipype.pipeline.engine.nodes import NodeExecutionError

from nipype_quicksilver.interfaces import RegistrationReport
from nipype_quicksilver.reports import write_registration_report


def test_page_of_the_node(registered, tmp_path):
    node = Node(RegistrationReport(summary=registered / "summary.json"), name="report")
    node.base_dir = tmp_path
    written = Path(node.run().outputs.out_file)
    assert written == tmp_path / "report" / "report.html"
    expected = write_registration_report(registered, tmp_path / "expected.html")
    assert written.read_bytes() == expected.read_bytes()
    assert not (registered / "report.html").exists()


def test_error_names_the_file(pair, registered, tmp_path):
    node = Node(RegistrationReport(), name="report", base_dir=tmp_path)
    node.inputs.summary = registered / "summary.json"
    node.inputs.fixed_image = pair.moving
    with pytest.raises(NodeExecutionError, match=r"InputError: .*warped.nii.gz: not on the grid"):
        node.run()
