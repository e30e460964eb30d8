"""The examples of the page about prices run."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "pricing.md"


def test_the_examples_of_the_page_run() -> None:
    """Every Python block runs, one after the other, in one namespace."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    namespace: dict[str, object] = {}

    for block in blocks:
        exec(block, namespace)

    assert len(blocks) == 3
