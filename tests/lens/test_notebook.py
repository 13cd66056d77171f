"""The notebook runs from top to bottom on the bundled model, and is committed with its outputs."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import nbformat
import pytest
from ipykernel.kernelspec import write_kernel_spec
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient
from nbformat import NotebookNode

from utils.files.paths import REPOSITORY
from utils.weights.gguf_conversion import named_folder
from utils.weights.named import BUNDLED

NOTEBOOK = REPOSITORY / "activation_steering_interp.ipynb"
SHOWN = ("text/html", "image/png")


@pytest.fixture(scope="module")
def committed() -> NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(cell: NotebookNode) -> list[str]:
    """What a cell has put out: printed text, HTML or a picture, errors, warnings."""
    found = []
    for output in cell.outputs:
        data = output.get("data", {})
        named = [kind for kind in SHOWN if kind in data]
        found += named or [output.get("name", output.output_type)]
    return found


def run(notebook: NotebookNode, folder: Path) -> NotebookNode:
    """Run a copy with this very interpreter, in the repository, as a person would."""
    specs = folder / "kernels"
    write_kernel_spec(specs / "this-python")
    manager = AsyncKernelManager(
        kernel_name="this-python",
        kernel_spec_manager=KernelSpecManager(kernel_dirs=[str(specs)]),
        # Sockets in a folder of the user's instead of ports that anyone may read.
        transport="ipc",
        ip=str(folder / "kernel"),
    )
    assert manager.kernel_spec is not None and manager.kernel_spec.argv[0] == sys.executable
    copy = nbformat.from_dict(notebook)
    for cell in code_cells(copy):
        cell.outputs, cell.execution_count = [], None
    copy.cells.append(nbformat.v4.new_code_cell("import sys; print(sys.executable)"))
    resources = {"metadata": {"path": str(REPOSITORY)}}
    return NotebookClient(copy, km=manager, timeout=300, resources=resources).execute()


@pytest.mark.bundled
@pytest.mark.slow
def test_it_runs_from_top_to_bottom_and_shows_what_is_committed(
    committed: NotebookNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    named_folder(BUNDLED)
    before = NOTEBOOK.read_bytes()
    *cells, last = code_cells(run(committed, tmp_path))
    assert last.outputs[0].text.strip() == sys.executable
    assert [kinds(cell) for cell in cells] == [kinds(cell) for cell in code_cells(committed)]
    assert not {"error", "stderr"} & {kind for cell in cells for kind in kinds(cell)}
    assert NOTEBOOK.read_bytes() == before


def test_it_is_committed_with_all_its_outputs(committed: NotebookNode) -> None:
    cells = code_cells(committed)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    shown = [kind for cell in cells for kind in kinds(cell)]
    assert shown.count("image/png") >= 9 and shown.count("text/html") == 1
    assert set(shown) == {"stdout", *SHOWN}, "no errors, no warnings"
    # A cell whose last line is an expression, or that prints, has something to show.
    for cell in cells:
        if re.search(r"^(Image|HTML|print)\(", cell.source, re.M):
            assert cell.outputs, cell.source


def test_it_is_small_and_names_no_machine(committed: NotebookNode) -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert len(text) < 1_500_000
    for trace in (r"/(home|root|tmp|work|Users|usr)/", "Traceback", "Warning", "TODO", "@@"):
        assert not re.search(trace, text), trace
    assert set(committed.metadata) == {"kernelspec", "language_info"}
    assert not any("execution" in cell.metadata for cell in committed.cells)
