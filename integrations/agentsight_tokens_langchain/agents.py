"""The agent that LangGraph's metadata names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["agent_name", "names_no_agent"]

_STEPS: Final = frozenset({"agent", "call_model", "llm", "model", "tools"})
"""Nodes that are a step of an agent rather than one, as the prebuilt agents name them."""


names_no_agent: Final = frozenset({"lc_agent_name", "langgraph_node"}).isdisjoint
"""Tells whether `agent_name` returns None, as it mostly does, without a call of Python's."""


def agent_name(metadata: Mapping[str, Any]) -> str | None:
    """
    Return the agent's own name, else the innermost node that is more than a step of one.

    A graph within a graph is named by a path such as `researcher:1f0c...|model:8a31...`.
    """
    named = metadata.get("lc_agent_name")
    if named:
        return str(named)
    node = metadata.get("langgraph_node")
    if not node:
        return None
    if node in _STEPS:
        path = str(metadata.get("langgraph_checkpoint_ns") or "").split("|")
        for part in reversed(path):
            outer = part.partition(":")[0]
            if outer and outer not in _STEPS:
                return outer
    return str(node)
