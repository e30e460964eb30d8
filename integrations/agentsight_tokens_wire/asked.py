"""What a request asks of its model, by the words that providers and frameworks share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from agentsight_tokens.meter import Asked

__all__ = ["MOST_OUTPUT", "asked_of"]

MOST_OUTPUT: Final = (
    "max_completion_tokens",
    "max_output_tokens",
    "max_tokens",
    "max_tokens_to_sample",
    "num_predict",
)
"""The names by which the largest output is set."""


def asked_of(prompt: Any, *settings: Mapping[str, Any] | None) -> Asked:
    """
    Return what is asked for.

    Args:
        prompt: Messages, a text or what is to be embedded.
        settings: What is set for the call, the most specific first.
    """
    known = [each for each in settings if isinstance(each, Mapping)]
    return Asked(
        prompt,
        next((most for each in known if (most := _most_output(each)) is not None), None),
        next((n for each in known if isinstance(n := each.get("n"), int)), 1),
        next((tools for each in known if isinstance(tools := each.get("tools"), Sequence)), ()),
    )


def _most_output(settings: Mapping[str, Any]) -> int | None:
    found = (settings.get(name) for name in MOST_OUTPUT)
    return next((most for most in found if type(most) is int and most >= 0), None)
