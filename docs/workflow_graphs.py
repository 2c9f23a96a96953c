"""The directive ``workflow-graph``: draws the graph of a workflow from the code.

    ```{workflow-graph} init_quicksilver_wf
    omp_nthreads=1, method="refine"
    ```

The content holds the arguments of the builder. Nipype writes the graph, and the program ``dot`` of
Graphviz draws it; if ``dot`` is not installed, the connections are listed instead.
"""

import logging
import shutil
import tempfile
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive
from nipype.pipeline.engine import Workflow

from nipype_quicksilver import workflows

FOLDER = "_graphs"  # of the pictures, next to the pages


def connections(workflow: Workflow) -> list[str]:
    """Return the connections, one line for each node that has successors."""
    graph = workflow._graph
    lines = []
    for node in graph.nodes:
        following = sorted(after.name for after in graph.successors(node))
        if following:
            lines.append(f"{node.name} -> {', '.join(following)}")
    return lines


def draw(workflow: Workflow, path: Path) -> None:
    """Draw a workflow as SVG by the program `dot`."""
    with tempfile.TemporaryDirectory() as folder:
        workflow.base_dir = folder
        written = workflow.write_graph(graph2use="colored", format="svg", dotfilename="graph.dot")
        shutil.copy(Path(written).with_suffix(".svg"), path)


class WorkflowGraph(Directive):
    """Build the workflow that the argument names, and show its graph."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        keywords = eval(f"dict({' '.join(self.content)})")
        workflow = getattr(workflows, name)(**keywords)
        listed = connections(workflow)
        if shutil.which("dot") is None:
            text = "\n".join(listed)
            note = nodes.paragraph(text=f"{name} (as a list: Graphviz is not installed)")
            return [note, nodes.literal_block(text, text, language="text")]
        environment = self.state.document.settings.env
        folder = Path(environment.srcdir) / FOLDER
        folder.mkdir(exist_ok=True)
        path = folder / f"{name}-{environment.new_serialno('workflow-graph')}.svg"
        draw(workflow, path)
        # A description of the picture, for screen readers.
        alt = f"Graph of {name}: {'; '.join(listed)}"
        return [nodes.image(uri=f"{FOLDER}/{path.name}", alt=alt)]


def setup(app) -> dict[str, bool]:
    logging.getLogger("nipype.workflow").setLevel(logging.WARNING)  # it reports every graph
    app.add_directive("workflow-graph", WorkflowGraph)
    return {"parallel_read_safe": True}
