"""How the callback gets into every run, and what its context knows."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Final

from agentsight_tokens.meter import Meter

from .agents import agent_name
from .callbacks import UsageCallback, usage_callback
from .context import config_in_force, run_in_force
from .generation import call_in_force

__all__ = ["surroundings", "switch_off", "switch_on"]

_variable: Final[ContextVar[UsageCallback | None]] = ContextVar(
    "agentsight_langchain_callback",
    # The default is seen in bare threads and empty contexts, where a value that is set is not.
    default=usage_callback,
)


def switch_on(meter: Meter, context: Any) -> None:
    """
    Let LangChain add the callback to every run.

    Args:
        meter: The meter that calls begin at.
        context: The module `langchain_core.tracers.context`.
    """
    usage_callback.meter = meter
    meter.finders.append(call_in_force)
    _remove_hook(context)
    context.register_configure_hook(_variable, inheritable=True)


def switch_off(meter: Meter, context: Any) -> None:
    """Take the callback back; runs that are open now are counted as unreported."""
    _remove_hook(context)
    meter.finders.remove(call_in_force)
    usage_callback.meter = None
    usage_callback.runs.expire_all()
    usage_callback.tools.clear()


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
        "tool_name": usage_callback.tools.name(run_in_force(config)),
    }


def _remove_hook(context: Any) -> None:
    # LangChain has no function for it.
    hooks = getattr(context, "_configure_hooks", [])
    hooks[:] = [hook for hook in hooks if hook[0] is not _variable]
