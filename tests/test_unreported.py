"""The reasons for which a call is unreported: one set, in the code and in the documents."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from agentsight_tokens.usage import UnreportedReason

ROOT = Path(__file__).parents[1]
REASONS = set(get_args(UnreportedReason))


def reasons_given() -> Iterator[str]:
    """Yield what the source gives as a reason, where the type checker may not see it."""
    for folder in ("agentsight_tokens", "integrations"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.keyword) and node.arg == "unreported_reason":
                    yield from texts_in(node.value)
                elif isinstance(node, ast.Dict):
                    for key, value in zip(node.keys, node.values, strict=True):
                        if isinstance(key, ast.Constant) and key.value == "unreported_reason":
                            yield from texts_in(value)


def texts_in(node: ast.expr) -> Iterator[str]:
    for each in ast.walk(node):
        if isinstance(each, ast.Constant) and isinstance(each.value, str):
            yield each.value


def test_source_gives_no_other_reason() -> None:
    """Every handler gives a reason of the set."""
    assert {"cancelled", "error_without_usage", "run_never_closed"} <= set(reasons_given())
    assert set(reasons_given()) <= REASONS


def test_every_reason_is_documented() -> None:
    """The table of the accuracy document has each reason, in their order."""
    text = (ROOT / "docs" / "accuracy.md").read_text(encoding="utf-8")
    table = text.partition("(`unreported_reason`)")[2].partition("##")[0]
    rows = [line.split("`")[1] for line in table.splitlines() if line.startswith("| `")]

    assert rows == list(get_args(UnreportedReason))
