"""Laws of extraction, whatever the counts are."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import asdict

from agentsight_tokens.errors import InvalidCountError, UnknownResponseError
from agentsight_tokens.extract import (
    anthropic_usage,
    bedrock_usage,
    extract_usage,
    gemini_usage,
    langchain_usage,
    mistral_usage,
    openai_usage,
    perplexity_usage,
    xai_usage,
)
from agentsight_tokens.extract.chat_format import compatible_chat
from agentsight_tokens.extract.from_openai import openais_own_chat
from agentsight_tokens.extract.reading import Extracted
from agentsight_tokens.usage import MAX_COUNT, USAGE_FIELDS, TokenUsage
from agentsight_tokens_wire.answers import Answer

RECORDED = Path(__file__).parent / "recorded"

unhurried = settings(deadline=None)
"""The first example of a run pays for imports."""

counts = st.integers(0, 10**9)
maybe = st.none() | counts


def as_object(value: Any) -> Any:
    if isinstance(value, dict):
        return SimpleNamespace(**{key: as_object(inner) for key, inner in value.items()})
    if isinstance(value, list):
        return [as_object(inner) for inner in value]
    return value


def without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_none(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [without_none(inner) for inner in value]
    return value


def fields(usage: TokenUsage) -> dict[str, int]:
    return {name: getattr(usage, name) for name in USAGE_FIELDS}


openai_bodies = st.fixed_dictionaries(
    {
        "prompt_tokens": counts,
        "completion_tokens": counts,
        "prompt_tokens_details": st.none()
        | st.fixed_dictionaries(
            {},
            optional={
                "cached_tokens": maybe,
                "cache_write_tokens": maybe,
                "audio_tokens": maybe,
                "image_tokens": maybe,
                "text_tokens": maybe,
            },
        ),
        "completion_tokens_details": st.none()
        | st.fixed_dictionaries(
            {},
            optional={
                "reasoning_tokens": maybe,
                "audio_tokens": maybe,
                "accepted_prediction_tokens": maybe,
                "rejected_prediction_tokens": maybe,
            },
        ),
    }
).map(lambda body: {**body, "total_tokens": body["prompt_tokens"] + body["completion_tokens"]})

anthropic_bodies = st.fixed_dictionaries(
    {"input_tokens": counts, "output_tokens": counts},
    optional={
        "cache_read_input_tokens": maybe,
        "cache_creation_input_tokens": maybe,
        "cache_creation": st.none()
        | st.fixed_dictionaries(
            {}, optional={"ephemeral_5m_input_tokens": maybe, "ephemeral_1h_input_tokens": maybe}
        ),
        "server_tool_use": st.none() | st.fixed_dictionaries({"web_search_requests": counts}),
    },
)

gemini_bodies = st.fixed_dictionaries(
    {"promptTokenCount": counts},
    optional={
        "cachedContentTokenCount": maybe,
        "toolUsePromptTokenCount": maybe,
        "candidatesTokenCount": maybe,
        "thoughtsTokenCount": maybe,
        "promptTokensDetails": st.none()
        | st.lists(
            st.fixed_dictionaries(
                {"modality": st.sampled_from(["TEXT", "AUDIO", "IMAGE"]), "tokenCount": counts}
            )
        ),
    },
)

bedrock_bodies = st.fixed_dictionaries(
    {"inputTokens": counts, "outputTokens": counts},
    optional={"cacheReadInputTokens": maybe, "cacheWriteInputTokens": maybe},
)


@unhurried
@given(openai_bodies)
def test_details_never_add_to_openai(body: dict[str, Any]) -> None:
    """OpenAI's details are parts: the input, the output and the total are those reported."""
    usage = openai_usage(body)

    assert usage.input_tokens == body["prompt_tokens"]
    assert usage.output_tokens == body["completion_tokens"]
    assert usage.total_tokens == body["total_tokens"]
    assert usage.embedding_tokens == 0


@unhurried
@given(anthropic_bodies)
def test_parts_always_add_to_anthropic(body: dict[str, Any]) -> None:
    """Anthropic's counts are disjoint: the input is their sum, and never less than its parts."""
    usage = anthropic_usage(body)

    assert (
        usage.input_tokens
        == body["input_tokens"] + usage.cache_read_tokens + usage.cache_creation_tokens
    )
    assert usage.output_tokens == body["output_tokens"]
    assert usage.cache_creation_1h_tokens <= usage.cache_creation_tokens
    assert usage.cache_creation_tokens >= (body.get("cache_creation_input_tokens") or 0)


@unhurried
@given(anthropic_bodies, anthropic_bodies)
def test_anthropic_delta_over_start(start: dict[str, Any], delta: dict[str, Any]) -> None:
    """A stream's usage is that of the start with every count replaced that the delta sends."""
    merged = {**start, **without_none(delta)}

    assert anthropic_usage(delta, start=start) == anthropic_usage(merged)


@unhurried
@given(gemini_bodies)
def test_gemini_total_is_input_and_output(body: dict[str, Any]) -> None:
    """The documented total, which is the sum of four counts, is that of input and output."""
    four = ("promptTokenCount", "toolUsePromptTokenCount", "candidatesTokenCount")
    total = sum(body.get(name) or 0 for name in (*four, "thoughtsTokenCount"))
    usage = gemini_usage({**body, "totalTokenCount": total})

    assert usage.input_tokens + usage.output_tokens == usage.total_tokens == total
    assert usage.reasoning_tokens <= usage.output_tokens


@unhurried
@given(bedrock_bodies)
def test_bedrock_input_is_the_sum(body: dict[str, Any]) -> None:
    """Converse's counts are disjoint, too."""
    usage = bedrock_usage(body)

    assert (
        usage.input_tokens
        == body["inputTokens"] + usage.cache_read_tokens + usage.cache_creation_tokens
    )


@unhurried
@given(openai_bodies, counts)
def test_reasoning_is_added_once(body: dict[str, Any], reasoning: int) -> None:
    """xAI's reasoning is in the output once, whether the completion holds it or not."""
    made = body["completion_tokens"]
    details = {"reasoning_tokens": reasoning}
    beside = {
        **body,
        "completion_tokens_details": details,
        "total_tokens": body["prompt_tokens"] + made + reasoning,
    }
    within = {
        **body,
        "completion_tokens": made + reasoning,
        "completion_tokens_details": details,
        "total_tokens": body["prompt_tokens"] + made + reasoning,
    }

    assert xai_usage(beside) == xai_usage(within)
    assert xai_usage(within).output_tokens == made + reasoning


READERS = [
    (openai_usage, openai_bodies),
    (xai_usage, openai_bodies),
    (mistral_usage, openai_bodies),
    (perplexity_usage, openai_bodies),
    (anthropic_usage, anthropic_bodies),
    (gemini_usage, gemini_bodies),
    (bedrock_usage, bedrock_bodies),
    (langchain_usage, anthropic_bodies),
]


@pytest.mark.parametrize(
    ("read", "bodies"), READERS, ids=lambda value: getattr(value, "__name__", "")
)
@unhurried
@given(data=st.data())
def test_every_form_gives_the_same(read: Any, bodies: Any, data: st.DataObject) -> None:
    """A dict, an object, JSON and a body without its nulls give the same counts."""
    body = data.draw(bodies)
    usage = read(body)

    assert read(as_object(body)) == usage
    assert read(json.loads(json.dumps(body))) == usage
    assert read(without_none(body)) == usage
    assert all(type(value) is int for value in fields(usage).values())


@pytest.mark.parametrize(
    "path", sorted(RECORDED.glob("*.json")), ids=lambda path: getattr(path, "stem", "")
)
@unhurried
@given(data=st.data())
def test_scaled_bodies(path: Path, data: st.DataObject) -> None:
    """Every recorded body keeps its shape when all of its counts grow by the same factor."""
    factor = data.draw(st.integers(1, 1000))
    body = json.loads(path.read_text(encoding="utf-8"))
    body = body[0] if isinstance(body, list) else body
    usage, scaled = extract_usage(body).usage, extract_usage(_scaled(body, factor)).usage

    # Searches that are counted by their items or by the model's name do not grow.
    skip = {"web_search_requests"}
    grown = None if usage is None else {k: v * factor for k, v in fields(usage).items()}
    seen = None if scaled is None else fields(scaled)
    assert (grown is None) == (seen is None)
    if grown is not None and seen is not None:
        assert {k: v for k, v in grown.items() if k not in skip} == {
            k: v for k, v in seen.items() if k not in skip
        }


def _scaled(value: Any, factor: int) -> Any:
    if isinstance(value, dict):
        return {key: _scaled(inner, factor) for key, inner in value.items()}
    if isinstance(value, list):
        return [_scaled(inner, factor) for inner in value]
    if isinstance(value, str) and value.isdigit():
        return str(int(value) * factor)  # Bedrock counts in the headers of its answer.
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value * factor
    return value


def _names(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*(_names(inner) for inner in value.values()))
    if isinstance(value, list):
        return set[str]().union(*(_names(inner) for inner in value))
    return set()


NAMES = sorted(
    set().union(*(_names(json.loads(path.read_text())) for path in RECORDED.glob("*.json")))
    | {"usage_metadata", "response_metadata", "raw", "additional_kwargs", "generations"}
    | {"parsing_error", "llm_output", "input_token_details", "iterations", "connectors"}
)
names = st.sampled_from(NAMES)
leaves = st.none() | st.booleans() | st.integers(-5, MAX_COUNT + 5) | st.floats() | st.text()
kinds = st.sampled_from(
    [
        "message",
        "message_delta",
        "chat.completion",
        "response",
        "list",
        "text_completion",
        "compaction",
        "advisor_message",
        "AUDIO",
        "web_search_call",
        "grok-4",
        "sonar",
        "gemini-3",
    ]
)
anything = st.recursive(
    leaves | kinds,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=6),
    max_leaves=25,
)


@unhurried
@given(anything, st.none() | st.sampled_from(["xai", "anthropic", "vertex_ai", "mistral", "other"]))
@example({"usage": "text"}, None)
@example({"object": "chat.completion", "usage": [1]}, "xai")
@example({"choices": 3, "usage": {"prompt_tokens": 1, "cost": float("nan")}}, None)
@example({"usage": {"input_tokens": 1, "iterations": {"type": "compaction"}}}, "anthropic")
def test_nothing_else_is_ever_raised(body: Any, provider: str | None) -> None:
    """Whatever a body holds, it is read, or refused by one of our two errors."""
    for form in (body, as_object(body)):
        try:
            found = extract_usage(form, provider=provider)
        except (UnknownResponseError, InvalidCountError):
            continue
        assert isinstance(found, Extracted)
        assert found.usage is None or all(value >= 0 for value in fields(found.usage).values())


def _places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The places of a body at which something else can be put."""
    inner = value.items() if isinstance(value, dict) else ()
    inner = enumerate(value) if isinstance(value, list) else inner
    return [place, *(found for key, held in inner for found in _places(held, (*place, key)))]


def _put(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    if not place:
        return new
    key, *rest = place
    if isinstance(value, dict):
        return {**value, key: _put(value[key], tuple(rest), new)}
    return [_put(held, tuple(rest), new) if at == key else held for at, held in enumerate(value)]


BODIES = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RECORDED.glob("*.json"))]


@unhurried
@given(st.data(), anything)
def test_nothing_else_is_raised_for_a_broken_body(data: st.DataObject, junk: Any) -> None:
    """A body of a provider in which any one thing is not as documented is no exception either."""
    body = data.draw(st.sampled_from(BODIES))
    broken = _put(body, data.draw(st.sampled_from(_places(body))), junk)

    test_nothing_else_is_ever_raised.hypothesis.inner_test(broken, None)


NO_ANSWER = asdict(Answer())
"""The fields of an answer from the wire that says nothing."""

plain_details = st.fixed_dictionaries(
    {},
    optional={
        name: st.integers(0, 40) | st.sampled_from([None, True, -1, 3.0, 2.5, "7", MAX_COUNT + 1])
        for name in ("cached_tokens", "audio_tokens", "reasoning_tokens", "cache_write_tokens")
    },
)


@unhurried
@given(
    st.dictionaries(st.sampled_from(["input", "output"]), plain_details),
    st.tuples(*[st.integers(0, 40) | st.sampled_from([None, True, -1, 3.0, "7"])] * 3),
    st.sampled_from([("prompt", "completion"), ("input", "output")]),
)
@example({"output": {"reasoning_tokens": 5}}, (10, 2, 17), ("prompt", "completion"))
@example({"output": {"reasoning_tokens": 2}}, (10, 5, 15), ("input", "output"))
def test_openais_own_usage_is_read_as_any_other(
    details: dict[str, dict[str, Any]], totals: tuple[Any, ...], names: tuple[str, str]
) -> None:
    """Decoded JSON of OpenAI's is read on a way of its own, and an object with its fields not."""
    body: dict[str, Any] = {
        f"{names[0]}_tokens": totals[0],
        f"{names[1]}_tokens": totals[1],
        "total_tokens": totals[2],
    }
    for side, told in details.items():
        body[f"{names[side == 'output']}_tokens_details"] = told

    def read(usage: Any) -> TokenUsage | str:
        try:
            return openai_usage(usage)
        except InvalidCountError as error:
            return str(error)

    assert read(body) == read(as_object(body))


@unhurried
@given(
    st.dictionaries(st.sampled_from(["input", "output"]), plain_details),
    st.tuples(*[st.integers(0, 40)] * 3),
    st.sampled_from(["gpt-4o-mini", "gpt-4o-search-preview", "gemini-3", "sonar", "own", "", None]),
    st.fixed_dictionaries(
        {},
        optional={
            "id": st.sampled_from(["chatcmpl-1", "", None, 7]),
            "service_tier": st.sampled_from(["default", "Flex", "auto", "", None, 7]),
            "x_groq": st.just({"id": "1"}),
            "prompt": st.just([]),
            "prompt_filter_results": st.just([{}]),
            "kv_transfer_params": st.just({}),
        },
    ),
    st.sampled_from([None, "openai", "azure", "deepseek", "perplexity", "xai"]),
)
@example({"output": {"reasoning_tokens": 5}}, (10, 2, 17), "gpt-5", {}, None)
@example({"input": {"cached_tokens": 5}}, (10, 2, 12), "gpt-5", {}, "openai")
def test_openais_own_chat_is_read_as_any_other(
    details: dict[str, dict[str, Any]],
    totals: tuple[int, ...],
    model: str | None,
    more: dict[str, Any],
    provider: str | None,
) -> None:
    usage: dict[str, Any] = dict(
        zip(("prompt_tokens", "completion_tokens", "total_tokens"), totals, strict=True)
    )
    for side, told in details.items():
        usage[f"{'prompt' if side == 'input' else 'completion'}_tokens_details"] = told
    answer = {"model": model, "usage": usage, **more}

    own = openais_own_chat(SimpleNamespace(**{**NO_ANSWER, **answer}), provider)

    assert own is None or own == compatible_chat(as_object(answer), provider)


def test_what_openai_itself_sends_is_read_as_its_own() -> None:
    body = json.loads((RECORDED / "openai_chat.json").read_text())
    answer = msgspec.convert(body, Answer)

    own = openais_own_chat(answer, None)

    assert own is not None
    assert own == compatible_chat(body, None) == openais_own_chat(answer, "openai")
    assert openais_own_chat(answer, "azure") is None
