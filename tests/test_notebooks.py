"""The notebooks: they run, and what is committed in them is what a fresh run shows."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
LARGEST_BYTES = 250_000

pytestmark = pytest.mark.notebooks


def paths() -> list[Path]:
    return sorted(NOTEBOOKS.glob("*.ipynb"))


def fresh_run(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("run_notebooks", NOTEBOOKS / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ran(path)


def shown(cell: Any) -> list[tuple[str, str]]:
    """Return the kinds of what a cell shows, and their texts without addresses."""
    found: list[tuple[str, str]] = []
    for output in cell.get("outputs", ()):
        data = output.get("data", {})
        text = data.get("text/html") or data.get("text/plain") or output.get("text", "")
        kind = output.get("name") or output.output_type
        if found and found[-1][0] == kind == "stdout":  # it comes in pieces, now these, now those
            text = found.pop()[1] + "".join(text)
        found.append((kind, re.sub(r"0x[0-9a-f]+", "0x", "".join(text))))
    return found


@pytest.mark.parametrize("path", paths(), ids=lambda path: path.stem)
@pytest.mark.timeout(300)
def test_a_fresh_run_shows_what_is_committed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells that are tagged `varies`, with times and plots, have outputs of the same kinds."""
    import nbformat

    monkeypatch.delenv("AGENTSIGHT_DATA_DIR")
    committed = nbformat.read(path, as_version=4)
    fresh = fresh_run(path)

    for before, now in zip(committed.cells, fresh.cells, strict=True):
        if before.cell_type == "code":
            if "varies" in before.metadata.get("tags", ()):
                assert [kind for kind, _ in shown(now)] == [kind for kind, _ in shown(before)]
            else:
                assert shown(now) == shown(before), before.source


@pytest.mark.parametrize("path", paths(), ids=lambda path: path.stem)
def test_what_is_committed_is_small_and_clean(path: Path) -> None:
    """It has outputs, no errors, nothing on stderr, no machine's paths, and links that lead on."""
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    text = path.read_text()

    assert path.stat().st_size < LARGEST_BYTES
    assert any(cell.get("outputs") for cell in notebook.cells)
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\(((?!https?:)[^)#]+)\)", cell.source):
                assert (path.parent / target).exists(), target
    assert "/tmp/" not in text
    assert "/home/" not in text
