"""What a LlamaIndex class says of its provider."""

from __future__ import annotations

import functools
from typing import Any, Final

from agentsight_tokens.extract.recognition import PROVIDER_NAMES

__all__ = ["is_openai_like", "model_of", "provider_of", "sends_lazily"]

_FAMILIES: Final = ("llama_index.llms.", "llama_index.embeddings.", "llama_index.multi_modal_llms.")
_OPENAI_LIKE: Final = "llama_index.llms.openai_like."
_LAZY: Final = "llama_index.llms.openai."

_GATEWAYS: Final = frozenset({"langchain", "litellm", "openai_like"})
"""Integrations that lead to any provider; the answer itself may tell which."""


def provider_of(kind: type) -> str | None:
    """Return the provider of a model's class, by the integration that it comes from."""
    name = _integration_of(kind)
    if name is None or name in _GATEWAYS:
        return None
    return PROVIDER_NAMES.get(name, name)


def model_of(described: dict[str, Any]) -> str | None:
    """Return the model that a start event's description names."""
    name = described.get("model_name") or described.get("model")
    return name if isinstance(name, str) and name != "unknown" else None


def sends_lazily(kind: type) -> bool:
    """Tell whether a stream of this class sends its request only when it is first drained."""
    return any(base.__module__.startswith(_LAZY) for base in kind.__mro__)


def is_openai_like(kind: type) -> bool:
    """Tell whether a class talks to whatever server, which may refuse unknown options."""
    return any(base.__module__.startswith(_OPENAI_LIKE) for base in kind.__mro__)


@functools.lru_cache(maxsize=1024)
def _integration_of(kind: type) -> str | None:
    for base in kind.__mro__:
        for family in _FAMILIES:
            if base.__module__.startswith(family):
                return base.__module__[len(family) :].partition(".")[0]
    return None
