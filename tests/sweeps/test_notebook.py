"""Tests that a study runs in a notebook: the table is one output that is replaced, and the records are a frame."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

missing = [name for name in ("nbclient", "nbformat", "ipykernel") if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} not installed: the extra `docs` has them"),
]
CELLS = (
    "from sweeps import run, Study, Arm, Axes, Launch\n"
    "from sweeps.smoke import STUDY\n"
    "study = Study('tiny', 'Does a study run in a notebook?', (Arm('A0', 0, 0), Arm('A1', 2, 0)),\n"
    "              settings=STUDY.settings, limits=STUDY.limits,\n"
    "              miniature={**STUDY.miniature, 'steps': 6, 'eval_every_steps': 2})\n"
    "records = run(study, Axes(), Launch())",
    "from analysis import records_of, trial_frame\n"
    "frame = trial_frame(records_of('tiny'))\n"
    "print(len(frame), sorted(frame['name']), sorted(frame['verdict']))\n"
    "frame",
)


def executed(directory: Path) -> tuple[Any, list[dict[str, Any]]]:
    """Execute the cells; return the notebook, and the messages that displayed or replaced an output."""
    import nbformat
    from nbclient import NotebookClient

    shown: list[dict[str, Any]] = []

    class Listening(NotebookClient):
        def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
            if msg["msg_type"] in ("display_data", "update_display_data"):
                shown.append(msg)
            return super().process_message(msg, cell, cell_index)

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    Listening(notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(directory)}}).execute()
    return notebook, shown


def test_a_study_runs_in_a_notebook(tmp_path: Path) -> None:
    notebook, shown = executed(tmp_path)
    launched, framed = (cell.outputs for cell in notebook.cells)

    texts: dict[str, list[str]] = {}  # what each output showed, one after another, by its display id
    for message in shown:
        if name := message["content"].get("transient", {}).get("display_id"):
            texts.setdefault(name, []).append(message["content"]["data"].get("text/plain", ""))
    tables = [several for several in texts.values() if "A1" in several[-1]]
    assert len(tables) == 1, (
        f"one output has the table, replaced as trials go on: {[one[-1] for one in texts.values()]}"
    )
    assert len(tables[0]) >= 3 and tables[0][0] != tables[0][-1]
    phases = [several for several in texts.values() if several[0].startswith("starting Ray")]
    assert len(phases) == 1 and phases[0][-1].startswith("starting Ray: "), "a phase is one output that is replaced"
    said = "".join(output.text for output in launched if output.output_type == "stream")
    assert "starting Ray" not in said, "a phase is no line of a log"
    drawn = [one["content"]["data"] for one in shown if "A1" in one["content"]["data"].get("text/plain", "")]
    assert all("<pre" in one["text/html"] for one in drawn)
    assert not [output for output in launched if output.output_type == "error"]

    [printed] = [output.text for output in framed if output.output_type == "stream"]
    assert printed.startswith("2 ['A0', 'A1'] ['completed'")
    [frame] = [output for output in framed if output.output_type == "execute_result"]
    assert "<table" in frame.data["text/html"]
