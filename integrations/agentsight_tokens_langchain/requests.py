"""What LangChain is about to ask a model, by the arguments of its own methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["argument", "settings_of"]


def argument(args: Sequence[Any], told: Mapping[str, Any], position: int, name: str) -> Any:
    """Return an argument that is given by name or by position; None if it is not given."""
    return args[position] if len(args) > position else told.get(name)


def settings_of(model: Any, told: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """
    Return the parameters with which a model sends its request.

    Args:
        model: The model; a chat model puts together what `on_chat_model_start` is told as
            `invocation_params`, a legacy one what identifies it.
        told: What is set for this call.
    """
    together = getattr(model, "_get_invocation_params", None)
    if together is None:
        identifying: Mapping[str, Any] | None = getattr(model, "_identifying_params", None)
        return identifying
    settings: Mapping[str, Any] = together(
        **{name: value for name, value in told.items() if name not in {"messages", "run_manager"}}
    )
    return settings
