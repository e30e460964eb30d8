"""OpenAI's responses, and the shape that many other providers took over from it."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

from agentsight_tokens.usage import MAX_COUNT, Operation, TokenUsage

from .reading import Extracted, count, field, has, items, text, usage_of

__all__ = [
    "openai_chat",
    "openai_completion",
    "openai_embedding",
    "openai_embedding_usage",
    "openai_media",
    "openai_responses",
    "openai_usage",
    "openais_own_chat",
]

_COUNTS: Final = (
    "prompt_tokens",
    "completion_tokens",
    "input_tokens",
    "output_tokens",
    "total_tokens",
)

_OWN_MODELS: Final = (
    "chatgpt-",
    "codex-",
    "computer-use-",
    "ft:gpt-",
    "gpt-3",
    "gpt-4",
    "gpt-5",
    "gpt-audio",
    "gpt-image",
    "gpt-realtime",
    "o1",
    "o3",
    "o4-",
    "text-embedding-3",
    "text-embedding-ada",
    "whisper-",
)


_Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]


class _InputDetails(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """What OpenAI itself tells of the input."""

    cached_tokens: _Count = 0
    cache_write_tokens: _Count = 0
    audio_tokens: _Count = 0


class _OutputDetails(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """What OpenAI itself tells of the output."""

    reasoning_tokens: _Count = 0
    audio_tokens: _Count = 0
    accepted_prediction_tokens: _Count = 0
    rejected_prediction_tokens: _Count = 0


class _ChatUsage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """The usage object of OpenAI's own chat completions."""

    prompt_tokens: _Count
    completion_tokens: _Count
    total_tokens: _Count
    prompt_tokens_details: _InputDetails = _InputDetails()
    completion_tokens_details: _OutputDetails = _OutputDetails()

    def counts(self) -> TokenUsage | None:
        """Return the counts; None where they are to be read as `openai_usage` reads others'."""
        given, made = self.prompt_tokens_details, self.completion_tokens_details
        prompt, output, total = self.prompt_tokens, self.completion_tokens, self.total_tokens
        reasoning = made.reasoning_tokens
        if reasoning and total == prompt + output + reasoning:
            return None  # counted beside the output, as OpenAI itself never does
        return TokenUsage(
            input_tokens=prompt,
            output_tokens=output,
            total_tokens=total,
            cache_read_tokens=given.cached_tokens,
            cache_creation_tokens=given.cache_write_tokens,
            reasoning_tokens=reasoning,
            audio_input_tokens=given.audio_tokens,
            audio_output_tokens=made.audio_tokens,
        )


class _ResponsesUsage(
    _ChatUsage,
    rename={
        "prompt_tokens": "input_tokens",
        "completion_tokens": "output_tokens",
        "prompt_tokens_details": "input_tokens_details",
        "completion_tokens_details": "output_tokens_details",
    },
    frozen=True,
    forbid_unknown_fields=True,
    gc=False,
):
    """The usage object of OpenAI's own Responses."""


class _Chat(msgspec.Struct, frozen=True, gc=False):
    """What bears on the use of a chat completion, as OpenAI itself sends it."""

    usage: _ChatUsage
    model: str
    id: str | None = None
    service_tier: str | None = None
    x_groq: None = None
    """This and the rest are only other providers'."""
    prompt_filter_results: None = None
    prompt: None = None
    kv_transfer_params: None = None


def openai_usage(usage: Any) -> TokenUsage:
    """
    Return a usage object of chat completions, Responses, Realtime or legacy completions.

    Cached, written and audio tokens are part of the input; reasoning, audio and rejected
    prediction tokens are part of the output; nothing is added. A compatible provider that
    counts reasoning beside the output shows it by its total, and there it is added.

    https://platform.openai.com/docs/api-reference/chat/object and
    https://platform.openai.com/docs/api-reference/responses/object, checked 2026-11-22.
    """
    if type(usage) is dict and (own := _own_usage(usage)) is not None:
        return own
    read = field(usage, "prompt_tokens_details", "input_tokens_details", "input_token_details")
    made = field(
        usage, "completion_tokens_details", "output_tokens_details", "output_token_details"
    )
    of_cache = field(read, "cached_tokens_details")
    lifetimes = field(read, "cache_creation_token_details") or field(usage, "cache_creation")
    prompt = count(usage, "prompt_tokens", "input_tokens")
    output = count(usage, "completion_tokens", "output_tokens")
    total = count(usage, "total_tokens")
    reasoning = count(made, "reasoning_tokens") or count(usage, "reasoning_tokens")
    if reasoning and total and total == prompt + output + reasoning:
        output += reasoning
    written_1h = count(lifetimes, "ephemeral_1h_input_tokens")
    return TokenUsage(
        input_tokens=prompt,
        output_tokens=output,
        total_tokens=total,
        cache_read_tokens=count(
            read, "cached_tokens", "cache_read_tokens", "cache_read_input_tokens"
        )
        or count(
            usage,
            "cached_tokens",
            "prompt_cache_hit_tokens",
            "cache_read_input_tokens",
            "num_cached_tokens",
        ),
        cache_creation_tokens=max(
            count(read, "cache_write_tokens", "cache_creation_tokens")
            or count(read, "cache_creation_input_tokens")
            or count(usage, "cache_creation_input_tokens"),
            written_1h + count(lifetimes, "ephemeral_5m_input_tokens"),
        ),
        cache_creation_1h_tokens=written_1h,
        reasoning_tokens=reasoning,
        audio_input_tokens=count(read, "audio_tokens"),
        audio_output_tokens=count(made, "audio_tokens"),
        cache_read_audio_tokens=count(of_cache, "audio_tokens"),
        image_input_tokens=uncached_images(
            count(read, "image_tokens"), count(of_cache, "image_tokens")
        ),
        image_output_tokens=count(made, "image_tokens"),
        web_search_requests=count(read, "web_search_requests")
        or count(field(usage, "server_tool_use"), "web_search_requests"),
    )


def _own_usage(usage: dict[str, Any]) -> TokenUsage | None:
    """Return what `openai_usage` does, in a part of its time, of what OpenAI itself sends."""
    try:
        told = msgspec.convert(usage, _ResponsesUsage if "input_tokens" in usage else _ChatUsage)
    except msgspec.ValidationError:
        return None
    return told.counts()


def uncached_images(images: int, cached_images: int) -> int:
    """
    Return the image tokens that were not read from a cache.

    There is no price of cached images: what was cached is charged as a cache read alone.
    """
    return images - cached_images if cached_images <= images else images


def openai_chat(response: Any) -> Extracted:
    """
    Return the use of a chat completion or of the last chunk of its stream.

    The counts are those of all choices together; every choice was made from one prompt
    that is counted once. See `openai_usage` for what overlaps.

    https://platform.openai.com/docs/api-reference/chat/object, checked 2026-11-22. The models
    with `-search-` in their name search once before they answer:
    https://platform.openai.com/docs/guides/tools-web-search, checked 2026-11-22.
    """
    told = usage_of(response, "usage", *_COUNTS)
    found = _extracted(response, None if told is None else openai_usage(told), "chat")
    usage, model = found.usage, found.model
    if model and "-search-" in model and usage is not None and not usage.web_search_requests:
        usage = usage + TokenUsage(web_search_requests=1)
        return msgspec.structs.replace(found, usage=usage)
    return found


def openais_own_chat(answer: Any, provider: str | None) -> Extracted | None:
    """
    Return what `compatible_chat` does, in a part of its time, of what OpenAI itself sends.

    Args:
        answer: An answer's fields, of which the usage is decoded JSON.
        provider: Who answered; None for whoever the answer itself names.

    Returns:
        What it says; None where it is, or may be, another provider's.
    """
    if provider not in (None, "openai"):
        return None
    try:
        told = msgspec.convert(answer, _Chat, from_attributes=True)
    except msgspec.ValidationError:
        return None
    model, tier, usage = told.model, told.service_tier, told.usage.counts()
    if usage is None or "-search-" in model or not model.startswith(_OWN_MODELS):
        return None
    return Extracted(
        usage=usage,
        model=model,
        provider="openai",
        response_id=told.id or None,
        service_tier=tier.lower() if tier and tier != "auto" else None,
    )


def openai_responses(response: Any) -> Extracted:
    """
    Return the use of a response of the Responses API, or of an event that carries one.

    Each web search call whose action is a search is billed beside the tokens; opening a page
    and finding in it are not. See `openai_usage` for what overlaps.

    https://platform.openai.com/docs/api-reference/responses/object and
    https://platform.openai.com/docs/guides/tools-web-search, checked 2026-11-22.
    """
    whole = field(response, "response")
    if whole is not None and not isinstance(whole, str):
        response = whole
    found = usage_of(response, "usage", *_COUNTS)
    usage = None if found is None else openai_usage(found)
    if usage is not None and not usage.web_search_requests:
        searches = sum(1 for item in items(response, "output") if _is_search(item))
        if searches:
            usage = usage + TokenUsage(web_search_requests=searches)
    return _extracted(response, usage, "chat")


def _is_search(item: Any) -> bool:
    if text(item, "type") != "web_search_call":
        return False
    # The first versions of the tool sent no action, and could only search.
    return (text(field(item, "action"), "type") or "search") == "search"


def openai_completion(response: Any) -> Extracted:
    """
    Return the use of a legacy completion. Nothing overlaps.

    https://platform.openai.com/docs/api-reference/completions/object, checked 2026-11-22.
    """
    found = usage_of(response, "usage", *_COUNTS)
    return _extracted(response, None if found is None else openai_usage(found), "completion")


def openai_embedding_usage(usage: Any) -> TokenUsage:
    """
    Return a usage object of embeddings: the prompt was embedded, and nothing was produced.

    https://platform.openai.com/docs/api-reference/embeddings/object, checked 2026-11-22.
    """
    return TokenUsage(
        embedding_tokens=count(usage, "prompt_tokens", "input_tokens", "total_tokens")
    )


def openai_embedding(response: Any) -> Extracted:
    """
    Return the use of an embeddings call. `total_tokens` repeats `prompt_tokens`.

    https://platform.openai.com/docs/api-reference/embeddings/object, checked 2026-11-22.
    """
    found = usage_of(response, "usage", *_COUNTS)
    usage = None if found is None else openai_embedding_usage(found)
    return _extracted(response, usage, "embedding")


def openai_media(response: Any) -> Extracted:
    """
    Return the use of an image generation, an edit or a transcription.

    Image and audio tokens are part of the input. What an image model produces is image
    tokens, also where the details of the output are not sent. Transcriptions that are billed
    by their duration report no tokens.

    https://platform.openai.com/docs/api-reference/images/object and
    https://platform.openai.com/docs/api-reference/audio/json-object, checked 2026-11-22.
    """
    found = usage_of(response, "usage", *_COUNTS)
    if found is None:
        return _extracted(response, None, "other")
    usage = openai_usage(found)
    if has(response, "data") and not has(found, "output_tokens_details"):
        usage = TokenUsage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            total_tokens=usage.total_tokens,
            image_input_tokens=usage.image_input_tokens,
            image_output_tokens=usage.output_tokens,
        )
    return _extracted(response, usage, "other")


def _extracted(response: Any, usage: TokenUsage | None, operation: Operation) -> Extracted:
    model = text(response, "model")
    tier = text(response, "service_tier")
    return Extracted(
        usage=usage,
        model=model,
        provider="openai" if model and model.startswith(_OWN_MODELS) else None,
        operation=operation,
        response_id=text(response, "id"),
        # What was asked for is echoed as `auto` until the call is served.
        service_tier=None if tier in (None, "auto") else tier.lower(),
    )
