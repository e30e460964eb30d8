"""Every recorded body gives the counts that the provider's documentation says it holds."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from agentsight_tokens.errors import InvalidCountError, UnknownResponseError
from agentsight_tokens.extract import (
    KNOWN_SHAPES,
    Extracted,
    anthropic_message,
    anthropic_usage,
    bedrock_invoke_model,
    bedrock_usage,
    cohere_usage,
    deepseek,
    deepseek_usage,
    extract_usage,
    gemini,
    gemini_usage,
    groq,
    langchain_usage,
    mistral,
    ollama_usage,
    openai_chat,
    openai_embedding,
    openai_usage,
    perplexity,
    perplexity_usage,
    together,
    together_usage,
    vertex,
    vllm,
    vllm_usage,
    xai,
    xai_usage,
)
from agentsight_tokens.usage import TokenUsage

RECORDED = Path(__file__).parent / "recorded"

CLAUDE = "claude-sonnet-4-5-20250929"
USD = Decimal


def expected(
    usage: dict[str, int] | None, model: str | None, provider: str | None, **rest: Any
) -> Extracted:
    return Extracted(
        usage=None if usage is None else TokenUsage(**usage), model=model, provider=provider, **rest
    )


def used(input_tokens: int, output_tokens: int, **details: int) -> dict[str, int]:
    """The long names of a usage whose total is the sum, unless another is given."""
    names = {
        "total": "total_tokens",
        "read": "cache_read_tokens",
        "written": "cache_creation_tokens",
        "written_1h": "cache_creation_1h_tokens",
        "reasoning": "reasoning_tokens",
        "audio_in": "audio_input_tokens",
        "audio_out": "audio_output_tokens",
        "audio_read": "cache_read_audio_tokens",
        "image_in": "image_input_tokens",
        "image_out": "image_output_tokens",
        "searches": "web_search_requests",
    }
    return {
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        **{names[name]: value for name, value in details.items()},
    }


EXPECTED: dict[str, Extracted] = {
    "openai_chat": expected(
        used(2048, 512, read=1024, written=256, reasoning=384),
        "gpt-5-2025-08-07",
        "openai",
        response_id="chatcmpl-CeF1a2b3",
        service_tier="flex",
    ),
    "openai_chat_audio": expected(
        used(3000, 1500, audio_in=2000, audio_out=1000),
        "gpt-4o-audio-preview-2025-06-03",
        "openai",
        response_id="chatcmpl-CeF9audio",
        service_tier="default",
    ),
    "openai_chat_null_details": expected(
        used(11, 7), "gpt-4.1-2025-04-14", "openai", response_id="chatcmpl-null"
    ),
    "openai_chat_search": expected(
        used(9, 120, searches=1),
        "gpt-4o-search-preview-2025-03-11",
        "openai",
        response_id="chatcmpl-search",
    ),
    "openai_chat_last_chunk": expected(
        used(11, 7, read=4, reasoning=2),
        "gpt-4o-mini-2024-07-18",
        "openai",
        response_id="chatcmpl-Ceg1",
        service_tier="default",
    ),
    "openai_chat_content_chunk": expected(
        None, "gpt-4o-mini-2024-07-18", "openai", response_id="chatcmpl-Ceg1"
    ),
    "openai_responses": expected(
        used(328, 52, read=128, written=64, reasoning=40, searches=2),
        "gpt-5.1-2025-11-13",
        "openai",
        response_id="resp_68aa",
        service_tier="priority",
    ),
    "openai_responses_failed_event": expected(
        used(11, 7, read=4, reasoning=2),
        "gpt-5.1-2025-11-13",
        "openai",
        response_id="resp_68aa",
        service_tier="default",
    ),
    "openai_responses_created_event": expected(
        None, "gpt-5.1-2025-11-13", "openai", response_id="resp_68aa"
    ),
    "openai_realtime_done_event": expected(
        used(400, 150, read=192, audio_in=300, audio_out=120, audio_read=128),
        None,
        None,
        response_id="resp_rt",
    ),
    "openai_completion": expected(
        used(11, 7),
        "gpt-3.5-turbo-instruct:20230824-v2",
        "openai",
        operation="completion",
        response_id="cmpl-1",
    ),
    "openai_embedding": expected(
        {"embedding_tokens": 26}, "text-embedding-3-small", "openai", operation="embedding"
    ),
    "openai_image": expected(
        used(353, 4160, image_in=323, image_out=4160), None, None, operation="other"
    ),
    "openai_transcription": expected(used(14, 45, audio_in=14), None, None, operation="other"),
    "openai_transcription_by_duration": expected(None, None, None, operation="other"),
    "openai_batch_line": expected(
        used(2000, 500),
        "gpt-4o-2024-08-06",
        "openai",
        response_id="chatcmpl-batch",
        service_tier="batch",
    ),
    "azure_chat": expected(used(40, 8), "gpt-4o-2024-11-20", "azure", response_id="chatcmpl-azure"),
    "anthropic_message": expected(
        used(12000, 500, read=8000, written=3000, written_1h=2000, reasoning=210, searches=2),
        CLAUDE,
        "anthropic",
        response_id="msg_01A",
        service_tier="standard",
        region="us",
    ),
    "anthropic_message_plain": expected(used(11, 7), CLAUDE, "anthropic", response_id="msg_01B"),
    "anthropic_message_ttl_only": expected(
        used(20, 7, read=4, written=5, written_1h=2),
        CLAUDE,
        "anthropic",
        response_id="msg_01C",
        service_tier="priority",
    ),
    "anthropic_message_fast": expected(
        used(11, 7), CLAUDE, "anthropic", response_id="msg_01F", service_tier="fast"
    ),
    "anthropic_message_compacted": expected(
        used(203000, 4500), CLAUDE, "anthropic", response_id="msg_01D"
    ),
    "anthropic_message_advised": expected(
        used(412, 531),
        CLAUDE,
        "anthropic",
        response_id="msg_01E",
        others=(
            expected(
                used(923, 1612, read=100),
                "claude-opus-4-5-20251101",
                "anthropic",
                response_id="msg_01E",
            ),
        ),
    ),
    "anthropic_batch_result": expected(
        used(11, 36), CLAUDE, "anthropic", response_id="msg_01G", service_tier="batch"
    ),
    "bedrock_claude_sdk": expected(used(15, 5), CLAUDE, "bedrock", response_id="msg_bdrk_01H"),
    "vertex_claude": expected(
        used(25, 5, read=4, written=6), CLAUDE, "vertex_ai", response_id="msg_vrtx_01I"
    ),
    "gemini": expected(
        used(1350, 300, read=800, reasoning=240, audio_in=400, audio_read=250, image_in=50),
        "gemini-2.5-pro",
        "gemini",
        response_id="3w4VadGem",
        service_tier="standard",
    ),
    "gemini_image": expected(
        used(12, 1290, image_out=1290), "gemini-2.5-flash-image", "gemini", response_id="img1"
    ),
    "gemini_grounded": expected(
        used(9, 88, reasoning=64, searches=2), "gemini-3-pro-preview", "gemini", response_id="gr1"
    ),
    "gemini_blocked": expected(used(4, 0), "gemini-2.5-flash", "gemini"),
    "gemini_inclusive_candidates": expected(
        used(10, 80, reasoning=50), "gemini-2.5-flash-preview-04-17", "gemini"
    ),
    "gemini_live": expected(
        used(120, 80, reasoning=50, audio_in=100, audio_out=25), None, "gemini"
    ),
    "gemini_openai_format": expected(
        used(7, 815, reasoning=800), "gemini-2.5-flash", "gemini", response_id="Xk3vaJ"
    ),
    "vertex": expected(
        used(5, 7), "gemini-2.5-flash", "vertex_ai", response_id="vx1", service_tier="flex"
    ),
    "vertex_embedding": expected(
        {"embedding_tokens": 13}, None, "vertex_ai", operation="embedding"
    ),
    "bedrock_converse": expected(
        used(8520, 386, read=1000, written=7502, written_1h=2500),
        None,
        "bedrock",
        response_id="7a1e-req",
        service_tier="priority",
    ),
    "bedrock_converse_stream_metadata": expected(
        used(47, 20),
        "arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-3-5-sonnet-20240620-v1:0",
        "bedrock",
    ),
    "bedrock_invoke_nova": expected(used(46, 5, read=40), None, "bedrock"),
    "bedrock_invoke_llama": expected(used(16, 4), None, "bedrock", operation="completion"),
    "bedrock_invoke_titan": expected(used(5, 33), None, "bedrock", operation="completion"),
    "bedrock_invoke_titan_chunk": expected(used(5, 33), None, "bedrock", operation="completion"),
    "bedrock_invoke_titan_embedding": expected(
        {"embedding_tokens": 8}, None, "bedrock", operation="embedding"
    ),
    "bedrock_invoke_claude_stop": expected(used(67, 9, read=30, written=25), None, "bedrock"),
    "bedrock_invoke_answer": expected(
        used(28, 13, read=5, written=2), None, "bedrock", response_id="9b2f-req"
    ),
    "mistral_chat": expected(
        used(340, 20, read=320),
        "mistral-medium-2508",
        "mistral",
        response_id="cmpl-e5cc70bb28c444948073e77776eb30ef",
    ),
    "mistral_conversation": expected(used(7300, 55, searches=2), None, "mistral"),
    "cohere_chat": expected(used(5, 418, read=4), None, "cohere", response_id="c14c80c3-18eb"),
    "cohere_chat_end_event": expected(used(17, 12), None, "cohere"),
    "cohere_v1_chat": expected(used(5, 418), None, "cohere", response_id="ac9ce861"),
    "cohere_embed": expected(
        {"embedding_tokens": 2}, None, "cohere", operation="embedding", response_id="da6e531f"
    ),
    "cohere_rerank": expected(None, None, "cohere", operation="other", response_id="07734bd2"),
    "xai_chat": expected(
        used(32, 103, read=6, reasoning=94),
        "grok-4-0709",
        "xai",
        response_id="a3d1008e-4544",
        reported_cost_usd=USD("0.00154125"),
    ),
    "xai_responses": expected(
        used(8063, 2658, read=3072, reasoning=800, searches=5),
        "grok-4-1-fast-reasoning",
        "xai",
        response_id="b64f588b-9f9f",
        reported_cost_usd=USD("0.03349815"),
    ),
    "deepseek_chat": expected(
        used(2010, 300, read=1984, reasoning=250),
        "deepseek-reasoner",
        "deepseek",
        response_id="30f6413a-a827",
    ),
    "groq_chat": expected(
        used(4641, 1817, read=4608, reasoning=900),
        "openai/gpt-oss-120b",
        "groq",
        response_id="chatcmpl-f51b2cd2",
        service_tier="on_demand",
    ),
    "groq_last_chunk": expected(
        used(18, 556), "llama-3.3-70b-versatile", "groq", response_id="chatcmpl-f51b2cd2"
    ),
    "together_chat": expected(
        used(31, 459, read=16),
        "deepseek-ai/DeepSeek-V3.1",
        "together_ai",
        response_id="oHUQ1Kp-2j9zxn",
    ),
    "ollama_chat": expected(used(26, 282), "llama3.2", "ollama"),
    "ollama_chunk": expected(None, "llama3.2", "ollama"),
    "ollama_generate": expected(used(12, 98), "qwen3", "ollama", operation="completion"),
    "ollama_embed": expected(
        {"embedding_tokens": 8}, "all-minilm", "ollama", operation="embedding"
    ),
    "vllm_chat": expected(
        used(120, 30, read=112), "Qwen/Qwen3-8B", "vllm", response_id="chatcmpl-6a1f0d4b"
    ),
    "perplexity_sonar": expected(
        used(26, 832, searches=1),
        "sonar-pro",
        "perplexity",
        response_id="66f3900f-e32e",
        reported_cost_usd=USD("0.01856"),
    ),
    # 33 + 20,016 citations are read, 7,163 + 73,997 reasoning are produced; the total that is
    # reported knows of neither.
    "perplexity_deep_research": expected(
        used(20049, 81160, total=7196, reasoning=73997, searches=18),
        "sonar-deep-research",
        "perplexity",
        response_id="4ae1a6f4",
    ),
    "perplexity_free_citations": expected(
        used(10, 500, searches=1), "sonar-reasoning-pro", "perplexity", response_id="5be1"
    ),
    "openrouter_chat": expected(
        used(10339, 60, read=10318, written=12, reasoning=5),
        "anthropic/claude-sonnet-4.5",
        "openrouter",
        response_id="gen-1763712000",
        reported_cost_usd=USD("0.0041304"),
    ),
}
"""What each recorded body says, worked out by hand from the provider's documentation."""

STREAMS = {"anthropic_stream"}


def recorded(name: str) -> Any:
    return json.loads((RECORDED / f"{name}.json").read_text(encoding="utf-8"))


def as_object(value: Any) -> Any:
    """The same body as an SDK's object would hold it."""
    if isinstance(value, dict):
        return SimpleNamespace(**{key: as_object(inner) for key, inner in value.items()})
    if isinstance(value, list):
        return [as_object(inner) for inner in value]
    return value


def snake_case(value: Any) -> Any:
    """The same body as Google's SDKs name its fields."""
    if isinstance(value, dict):
        return {
            "".join(f"_{c.lower()}" if c.isupper() else c for c in key): snake_case(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [snake_case(inner) for inner in value]
    return value


def test_every_recorded_body_is_expected() -> None:
    """No body lies in `recorded` that no test reads."""
    assert {path.stem for path in RECORDED.glob("*.json")} == set(EXPECTED) | STREAMS


@pytest.mark.parametrize("name", EXPECTED)
def test_recorded_body(name: str) -> None:
    """A body gives what its provider's documentation says."""
    assert extract_usage(recorded(name)) == EXPECTED[name]


@pytest.mark.parametrize("name", EXPECTED)
def test_json_text(name: str) -> None:
    """JSON text, as bytes or as a string, gives the same as the body."""
    text = (RECORDED / f"{name}.json").read_bytes()

    assert extract_usage(text) == extract_usage(text.decode()) == EXPECTED[name]


@pytest.mark.parametrize("name", EXPECTED)
def test_object(name: str) -> None:
    """An object with attributes gives the same as the dict."""
    assert extract_usage(as_object(recorded(name))) == EXPECTED[name]


@pytest.mark.parametrize("name", [name for name in EXPECTED if name.startswith("gemini")])
def test_google_in_snake_case(name: str) -> None:
    """Google's SDKs write the fields in snake case."""
    body = snake_case(recorded(name))

    assert extract_usage(body) == extract_usage(as_object(body)) == EXPECTED[name]


@pytest.mark.parametrize("name", EXPECTED)
def test_details_are_parts(name: str) -> None:
    """Cache reads and writes never exceed the input, nor reasoning the output."""
    usage = EXPECTED[name].usage or TokenUsage()

    assert usage.cache_read_tokens + usage.cache_creation_tokens <= usage.input_tokens
    assert usage.cache_creation_1h_tokens <= usage.cache_creation_tokens
    assert usage.reasoning_tokens + usage.audio_output_tokens <= usage.output_tokens


BARE = [
    ("openai_chat", "usage", openai_usage),
    ("openai_responses_failed_event", None, lambda body: openai_usage(body["response"]["usage"])),
    ("anthropic_message_ttl_only", "usage", anthropic_usage),
    ("gemini", "usageMetadata", gemini_usage),
    ("bedrock_converse", "usage", bedrock_usage),
    ("cohere_chat", "usage", cohere_usage),
    ("xai_chat", "usage", xai_usage),
    ("deepseek_chat", "usage", deepseek_usage),
    ("together_chat", "usage", together_usage),
    ("vllm_chat", "usage", vllm_usage),
    ("perplexity_deep_research", "usage", perplexity_usage),
    ("ollama_chat", None, ollama_usage),
]


@pytest.mark.parametrize(("name", "key", "read"), BARE)
def test_bare_usage(name: str, key: str | None, read: Any) -> None:
    """A usage object alone is enough for the provider's own function."""
    body = recorded(name)

    assert read(body if key is None else body[key]) == EXPECTED[name].usage


@pytest.mark.parametrize(
    "name", [name for name, key, _ in BARE if key and not name.startswith("xai")]
)
def test_bare_usage_is_recognised(name: str) -> None:
    """A usage object alone is recognised wherever its counts tell whose it is."""
    body = recorded(name)
    bare = body.get("usage") or body["usageMetadata"]

    assert extract_usage(bare).usage == EXPECTED[name].usage


@pytest.mark.parametrize(
    ("read", "name"),
    [
        (openai_chat, "openai_chat"),
        (openai_embedding, "openai_embedding"),
        (anthropic_message, "anthropic_message"),
        (gemini, "gemini"),
        (vertex, "vertex"),
        (vertex, "vertex_claude"),
        (vertex, "vertex_embedding"),
        (bedrock_invoke_model, "bedrock_invoke_llama"),
        (mistral, "mistral_chat"),
        (xai, "xai_chat"),
        (deepseek, "deepseek_chat"),
        (groq, "groq_chat"),
        (together, "together_chat"),
        (vllm, "vllm_chat"),
        (perplexity, "perplexity_sonar"),
    ],
)
def test_own_function(read: Any, name: str) -> None:
    """Each provider's own function gives what recognition does."""
    assert read(recorded(name)) == EXPECTED[name]


@pytest.mark.parametrize(
    ("given", "known"),
    [
        ("x-ai", "xai"),
        ("google_genai", "gemini"),
        ("aws.bedrock", "bedrock"),
        ("Azure_OpenAI", "azure"),
        ("fireworks", "fireworks"),
    ],
)
def test_given_provider(given: str, known: str) -> None:
    """A provider that is given wins, by the name that prices know it by."""
    assert extract_usage(recorded("openai_chat"), provider=given).provider == known


def test_given_provider_decides_between_counts() -> None:
    """Where two providers share a shape, the one that is given says how it counts."""
    usage = {"input_tokens": 11, "output_tokens": 7, "cache_read_input_tokens": 4}
    chat = {
        "choices": [],
        "model": "my-grok",
        "usage": {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "completion_tokens_details": {"reasoning_tokens": 3},
        },
    }

    assert extract_usage(usage, provider="anthropic").usage == TokenUsage(
        input_tokens=15, output_tokens=7, cache_read_tokens=4
    )
    assert extract_usage(chat, provider="xai").usage == TokenUsage(
        input_tokens=10, output_tokens=8, reasoning_tokens=3
    )
    assert extract_usage(chat).usage == TokenUsage(
        input_tokens=10, output_tokens=5, reasoning_tokens=3
    )


def test_anthropic_usage_without_cache_counts() -> None:
    """A plain usage is Anthropic's where that is given, with its searches."""
    usage = {
        "input_tokens": 11,
        "output_tokens": 7,
        "server_tool_use": {"web_search_requests": 2},
    }

    assert extract_usage(usage, provider="anthropic") == expected(
        used(11, 7, searches=2), None, "anthropic"
    )


def test_xai_searches_that_only_the_output_shows() -> None:
    """Without details of the searches, xAI's search calls are counted by its output."""
    body = recorded("xai_responses")
    del body["usage"]["server_side_tool_usage_details"]
    found = extract_usage(body).usage

    assert found is not None
    assert found.web_search_requests == 1


def test_xai_reasoning_within_the_completion() -> None:
    """xAI's reasoning is not added where the total says that it is in the completion."""
    usage = {
        "prompt_tokens": 32,
        "completion_tokens": 100,
        "total_tokens": 132,
        "completion_tokens_details": {"reasoning_tokens": 94},
    }

    assert xai_usage(usage) == TokenUsage(input_tokens=32, output_tokens=100, reasoning_tokens=94)


def test_reasoning_beside_the_completion_of_any_provider() -> None:
    """A total that is the sum of three tells that reasoning stands beside the completion."""
    usage = {
        "prompt_tokens": 32,
        "completion_tokens": 9,
        "total_tokens": 135,
        "completion_tokens_details": {"reasoning_tokens": 94},
    }

    assert openai_usage(usage).output_tokens == 103


def test_anthropic_stream() -> None:
    """What `message_delta` leaves out is as `message_start` said."""
    start, delta = recorded("anthropic_stream")

    assert anthropic_message(delta, start=start) == expected(
        used(105, 9, read=30, written=25),
        CLAUDE,
        "anthropic",
        response_id="msg_01S",
        service_tier="standard",
    )
    assert anthropic_usage(delta["usage"], start=start["message"]["usage"]) == TokenUsage(
        **used(105, 9, read=30, written=25)
    )
    assert anthropic_message({"type": "message_stop"}, start=start).usage == TokenUsage(
        **used(105, 1, read=30, written=25)
    )
    assert extract_usage(start).usage == TokenUsage(**used(105, 1, read=30, written=25))
    assert extract_usage(delta).usage == TokenUsage(output_tokens=9)


def test_anthropic_delta_with_input() -> None:
    """The cumulative counts of `message_delta` replace those of `message_start`."""
    start = {"input_tokens": 10, "cache_read_input_tokens": 4, "output_tokens": 1}
    delta = {"input_tokens": 25, "cache_read_input_tokens": 0, "output_tokens": 9}

    assert anthropic_usage(delta, start=start) == TokenUsage(input_tokens=25, output_tokens=9)


def test_more_cached_than_input_is_left_as_reported() -> None:
    """What a provider says is not mended: the estimator marks it."""
    usage = openai_usage(
        {
            "prompt_tokens": 10,
            "completion_tokens": 1,
            "prompt_tokens_details": {"cached_tokens": 20},
        }
    )

    assert (usage.input_tokens, usage.cache_read_tokens) == (10, 20)


def test_invoke_model_reads_a_body_of_bytes() -> None:
    """A body that was read is used, also as bytes; one that was not is left unread."""
    answer = recorded("bedrock_invoke_answer")
    body = msgspec.json.encode(recorded("anthropic_message"))

    class Unread:
        def read(self) -> bytes:
            raise AssertionError("the caller's body must not be consumed")

    assert (
        bedrock_invoke_model({**answer, "body": body}).usage == EXPECTED["anthropic_message"].usage
    )
    assert (
        bedrock_invoke_model({"body": body, "contentType": "application/json"}).usage
        == EXPECTED["anthropic_message"].usage
    )
    assert (
        bedrock_invoke_model({"body": recorded("bedrock_invoke_llama")})
        == EXPECTED["bedrock_invoke_llama"]
    )
    assert bedrock_invoke_model({"body": Unread()}).usage is None
    assert bedrock_invoke_model({"body": b"\x89PNG"}).usage is None
    assert bedrock_invoke_model({**answer, "body": Unread()}) == EXPECTED["bedrock_invoke_answer"]
    assert bedrock_invoke_model({"ResponseMetadata": {"HTTPHeaders": {}}}).usage is None


def test_invoke_model_of_an_openai_model() -> None:
    """Models of OpenAI and AI21 on Bedrock answer in OpenAI's format."""
    assert bedrock_invoke_model(recorded("openai_chat_null_details")).usage == TokenUsage(
        input_tokens=11, output_tokens=7
    )


def test_perplexity_without_a_search() -> None:
    """A Perplexity model that did not search bills no search."""
    body = recorded("perplexity_sonar")
    del body["usage"]["search_context_size"]

    assert extract_usage(body).usage == TokenUsage(input_tokens=26, output_tokens=832)


def test_cost_of_a_key_of_the_users_own() -> None:
    """With a user's own key, OpenRouter's cost is its fee, which is no cost of the call."""
    body = recorded("openrouter_chat")
    body["usage"]["is_byok"] = True

    assert extract_usage(body).reported_cost_usd is None


def test_cohere_embeds_images() -> None:
    """Images are embedded beside the text, or within `input_tokens` where both are split."""
    beside = {"embeddings": [], "meta": {"billed_units": {"input_tokens": 3, "image_tokens": 40}}}
    split = {
        "embeddings": [],
        "meta": {"billed_units": {"input_tokens": 43, "image_tokens": 40, "text_tokens": 3}},
    }

    assert extract_usage(beside).usage == TokenUsage(embedding_tokens=43)
    assert extract_usage(split).usage == TokenUsage(embedding_tokens=43)


def test_cohere_without_billed_units() -> None:
    """`tokens` are taken where no units are sent."""
    usage = {"tokens": {"input_tokens": 215, "output_tokens": 12}}

    assert cohere_usage(usage) == TokenUsage(input_tokens=215, output_tokens=12)
    assert extract_usage({"embeddings": [], "meta": usage}).usage == TokenUsage(
        embedding_tokens=215
    )


@pytest.mark.parametrize(
    "response", [{}, {"a": 1}, [], 3, None, "no json", b"{", object(), {"error": {"code": 400}}]
)
def test_unknown_shape(response: Any) -> None:
    """What has no known shape raises an error that lists what has."""
    with pytest.raises(UnknownResponseError) as caught:
        extract_usage(response)

    assert all(shape in str(caught.value) for shape in KNOWN_SHAPES)


@pytest.mark.parametrize("count", [-1, 1.5, "12", True])
def test_impossible_count(count: Any) -> None:
    """A count that cannot be one is refused, and never rounded."""
    body = recorded("openai_chat")
    body["usage"]["prompt_tokens"] = count

    with pytest.raises(InvalidCountError):
        extract_usage(body)


def test_usage_without_any_count_is_no_usage() -> None:
    """A usage object whose counts are all null reports nothing."""
    body = recorded("openai_chat")
    body["usage"] = {"prompt_tokens": None, "completion_tokens": None, "total_tokens": None}

    assert extract_usage(body).usage is None


def test_langchain_usage_by_tier() -> None:
    """A service tier's name stands before the keys of the details."""
    usage = {
        "input_tokens": 11,
        "output_tokens": 7,
        "total_tokens": 18,
        "input_token_details": {"flex_cache_read": 4, "flex": 7},
        "output_token_details": {"flex_reasoning": 2, "flex": 5},
    }

    assert langchain_usage(usage) == TokenUsage(**used(11, 7, read=4, reasoning=2))
    assert extract_usage(usage).usage == langchain_usage(usage)


def test_langchain_usage_by_lifetime() -> None:
    """langchain-anthropic leaves `cache_creation` at 0 where it sends the lifetimes."""
    usage = {
        "input_tokens": 20,
        "output_tokens": 7,
        "total_tokens": 27,
        "input_token_details": {
            "cache_read": 4,
            "cache_creation": 0,
            "ephemeral_5m_input_tokens": 3,
            "ephemeral_1h_input_tokens": 2,
        },
    }

    assert langchain_usage(usage) == TokenUsage(**used(20, 7, read=4, written=5, written_1h=2))
