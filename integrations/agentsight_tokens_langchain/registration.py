"""Listening to LangChain, and what its context knows."""

from __future__ import annotations

from typing import Any

from agentsight_tokens.meter import Meter
from agentsight_tokens_wire.patches import Patches

from .agents import agent_name
from .asking import call_in_force
from .context import config_in_force, run_in_force
from .managers import watch_managers
from .run_events import run_events

__all__ = ["listen", "surroundings"]


def listen(meter: Meter, module: Any, patches: Patches) -> None:
    """
    Count the runs that LangChain's callback managers tell of.

    Args:
        meter: The meter that calls begin at.
        module: The module `langchain_core.callbacks.manager`.
        patches: What takes it back; runs that are open then are counted as unreported.
    """
    run_events.meter = meter
    meter.finders.append(call_in_force)
    patches.on_undo(lambda: _stop(meter))
    watch_managers(module, run_events, patches)


def surroundings() -> dict[str, Any]:
    """Return what LangChain's context says of the code that runs now."""
    config = config_in_force()
    if not config:
        return {}
    metadata = config.get("metadata") or {}
    return {
        "metadata": metadata,
        "fallback_conversation_id": metadata.get("thread_id"),
        "agent": agent_name(metadata),
        "tool_name": run_events.tools.name(run_in_force(config)),
    }


def _stop(meter: Meter) -> None:
    meter.finders.remove(call_in_force)
    run_events.meter = None
    run_events.runs.expire_all()
    run_events.tools.clear()
