"""
Run the notebooks anew and write what they show into them.

    python notebooks/run.py            # all of them
    python notebooks/run.py 01 04      # some

Needs the group `notebooks`: `uv run --all-extras --group notebooks python notebooks/run.py`.
"""

import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent


def ran(path: Path) -> nbformat.NotebookNode:
    """Return a notebook with the outputs of a fresh run, in an empty directory of its own."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["IPYTHONDIR"] = folder  # nobody's own settings
        client = NotebookClient(
            notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": folder}}
        )
        client.execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when it ran
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def main(names: list[str]) -> None:
    """Run notebooks whose names begin so, or all of them."""
    for path in sorted(HERE.glob("*.ipynb")):
        if not names or path.name.startswith(tuple(names)):
            nbformat.write(ran(path), path)
            print(path.name)


if __name__ == "__main__":
    main(sys.argv[1:])
