"""With what a LangChain model sends its requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["settings_of"]


def settings_of(model: Any, stop: Any, told: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """
    Return the parameters of a request.

    Args:
        model: The model; a chat model puts together what `on_chat_model_start` is told as
            `invocation_params`, a legacy one what identifies it.
        stop: The words that end an answer.
        told: What is set for this call.
    """
    together = getattr(model, "_get_invocation_params", None)
    settings: Mapping[str, Any] | None = (
        getattr(model, "_identifying_params", None) if together is None else together(stop, **told)
    )
    return settings
