"""What a LlamaIndex class says of its provider."""

from __future__ import annotations

import sys
from typing import Any, Final

__all__ = ["is_openai_like", "model_of", "owner_of_raw", "provider_of", "sends_lazily"]

_FAMILIES: Final = ("llama_index.llms.", "llama_index.embeddings.", "llama_index.multi_modal_llms.")
_OPENAI_LIKE: Final = "llama_index.llms.openai_like"
_LAZY_MODULES: Final = ("llama_index.llms.openai.",)

_NAMES: Final = {
    "azure_openai": "azure",
    "bedrock_converse": "bedrock",
    "gemini": "google",
    "google_genai": "google",
    "mistralai": "mistral",
    "openai_like": None,
}
"""The providers whose integration is named otherwise; None leaves it open."""


def provider_of(kind: type) -> str | None:
    """Return the provider of a model's class, by the integration that it comes from."""
    for base in kind.__mro__:
        for family in _FAMILIES:
            if base.__module__.startswith(family):
                name = base.__module__[len(family) :].partition(".")[0]
                return _NAMES.get(name, name)
    return None


def model_of(described: dict[str, Any]) -> str | None:
    """Return the model that a start event's description names."""
    name = described.get("model_name") or described.get("model")
    return name if isinstance(name, str) and name != "unknown" else None


def sends_lazily(kind: type) -> bool:
    """Tell whether a stream of this class sends its request only when it is first drained."""
    return any(base.__module__.startswith(_LAZY_MODULES) for base in kind.__mro__)


def is_openai_like(kind: type) -> bool:
    """Tell whether a class talks to whatever server, which may refuse unknown options."""
    return any(base.__module__.startswith(_OPENAI_LIKE) for base in kind.__mro__)


def owner_of_raw(raw: Any) -> str:
    """Return the top-level package of a raw answer's class."""
    return type(raw).__module__.partition(".")[0]


def is_imported(module: str) -> bool:
    """Tell whether the program imported a module."""
    return module in sys.modules
