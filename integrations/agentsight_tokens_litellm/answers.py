"""What LiteLLM's responses, and the parts of its streams, say about a call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from agentsight_tokens.errors import InvalidCountError, UnknownResponseError
from agentsight_tokens.extract import Extracted, extract_usage
from agentsight_tokens.extract.reading import field
from agentsight_tokens.faults import report_fault
from agentsight_tokens.usage import Operation

__all__ = [
    "ASYNCHRONOUS",
    "OPERATIONS",
    "WATCHED",
    "provider_of",
    "read_answer",
    "read_parts",
]

_CHATS: Final = ("completion", "responses", "generate_content", "generate_content_stream")
_MEDIA: Final = ("image_generation", "image_edit", "transcription")

OPERATIONS: Final[Mapping[str, Operation]] = {
    **{f"{a}{name}": "chat" for name in _CHATS for a in ("", "a")},
    **{f"{a}{name}": "other" for name in _MEDIA for a in ("", "a")},
    "anthropic_messages": "chat",
    "text_completion": "completion",
    "atext_completion": "completion",
    "embedding": "embedding",
    "aembedding": "embedding",
}
"""What the calls do that are billed by tokens, by LiteLLM's names of their functions."""

ASYNCHRONOUS: Final = frozenset(
    {"anthropic_messages", *(name for name in OPERATIONS if name[1:] in OPERATIONS)}
)
"""Those of them that are coroutines."""

WATCHED: Final = frozenset(
    name for name in OPERATIONS if name.endswith(("completion", "responses"))
)
"""Those of them whose streams are watched."""

_PROVIDERS: Final = {
    "azure_text": "azure",
    "cohere_chat": "cohere",
    "ollama_chat": "ollama",
    "text-completion-codestral": "mistral",
    "text-completion-openai": "openai",
    "vertex_ai_beta": "vertex_ai",
}


def provider_of(details: Mapping[str, Any]) -> str | None:
    """Return the provider that a call asks, by its own name rather than that of an endpoint."""
    name = details.get("custom_llm_provider")
    return _PROVIDERS.get(name, name) if isinstance(name, str) and name else None


def read_answer(answer: Any, provider: str | None) -> Extracted:
    """
    Return what an answer says; its `usage` is None if it says nothing of that.

    LiteLLM brings the counts of every provider into OpenAI's shape, cache included.

    Args:
        answer: LiteLLM's object, or the provider's own JSON.
        provider: Who answered.
    """
    try:
        found = extract_usage(answer, provider=provider)
    except UnknownResponseError:
        return Extracted()
    except InvalidCountError as error:
        report_fault("reading LiteLLM's usage", error)
        return Extracted()
    # No call is answered without any token: LiteLLM writes zeros where a provider is silent.
    return found if found.usage else Extracted(model=found.model, response_id=found.response_id)


def read_parts(sources: Iterable[list[Any]], provider: str | None) -> Extracted:
    """
    Return what the parts of a stream say, as the provider itself told it.

    What LiteLLM makes of them at the end is not asked: where the provider told nothing, that
    is a count of the texts by a tokenizer of its own.

    Args:
        sources: The parts that each of the stream's wrappers has passed on.
        provider: Who answered.
    """
    found = Extracted()
    for parts in sources:
        for part in reversed(parts):
            # Each usage is the running total, and the last one is complete.
            if field(part, "usage") is not None:
                found = read_answer(part, provider)
                if found.usage is not None:
                    return found
        if parts and found.model is None:
            found = read_answer(parts[0], provider)
    return found
