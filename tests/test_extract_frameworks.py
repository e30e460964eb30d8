"""The real objects of SDKs and frameworks give what their bodies do."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from subprocess import run
from types import SimpleNamespace
from typing import Any

import pytest

from agentsight_tokens.extract import Extracted, anthropic_message, extract_usage
from agentsight_tokens.usage import TokenUsage

RECORDED = Path(__file__).parent / "recorded"

READ_ONLY = pytest.mark.filterwarnings("ignore:.*`ReadOnly` qualifier:UserWarning")
"""LiteLLM's own types make pydantic warn."""

D = TokenUsage(input_tokens=11, output_tokens=7, cache_read_tokens=4, reasoning_tokens=2)


def recorded(name: str) -> Any:
    return json.loads((RECORDED / f"{name}.json").read_text(encoding="utf-8"))


def test_no_sdk_is_imported() -> None:
    """Recognition imports no SDK and no framework."""
    program = (
        "import sys, agentsight_tokens.extract as e;"
        "e.extract_usage({'choices': [], 'usage': {'prompt_tokens': 1}});"
        "print([m for m in ('openai', 'anthropic', 'litellm', 'langchain_core', 'llama_index',"
        " 'google.genai', 'boto3', 'cohere', 'tiktoken', 'pydantic') if m in sys.modules])"
    )

    done = run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("name", "module", "kind"),
    [
        ("openai_chat", "openai.types.chat", "ChatCompletion"),
        ("openai_chat_audio", "openai.types.chat", "ChatCompletion"),
        ("openai_chat_null_details", "openai.types.chat", "ChatCompletion"),
        ("openai_chat_last_chunk", "openai.types.chat", "ChatCompletionChunk"),
        ("openai_chat_content_chunk", "openai.types.chat", "ChatCompletionChunk"),
        ("azure_chat", "openai.types.chat", "ChatCompletion"),
        ("deepseek_chat", "openai.types.chat", "ChatCompletion"),
        ("xai_chat", "openai.types.chat", "ChatCompletion"),
        ("groq_chat", "openai.types.chat", "ChatCompletion"),
        ("groq_last_chunk", "openai.types.chat", "ChatCompletionChunk"),
        ("perplexity_deep_research", "openai.types.chat", "ChatCompletion"),
        ("openrouter_chat", "openai.types.chat", "ChatCompletion"),
        ("together_chat", "openai.types.chat", "ChatCompletion"),
        ("openai_responses", "openai.types.responses", "Response"),
        ("openai_responses_failed_event", "openai.types.responses", "ResponseFailedEvent"),
        ("openai_realtime_done_event", "openai.types.realtime", "ResponseDoneEvent"),
        ("openai_completion", "openai.types", "Completion"),
        ("openai_embedding", "openai.types", "CreateEmbeddingResponse"),
        ("openai_image", "openai.types", "ImagesResponse"),
        ("openai_transcription", "openai.types.audio", "Transcription"),
        ("anthropic_message", "anthropic.types", "Message"),
        ("anthropic_message_fast", "anthropic.types", "Message"),
        ("anthropic_message_advised", "anthropic.types.beta", "BetaMessage"),
        ("anthropic_message_compacted", "anthropic.types.beta", "BetaMessage"),
        ("anthropic_batch_result", "anthropic.types.messages", "MessageBatchIndividualResponse"),
    ],
)
def test_sdk_object(name: str, module: str, kind: str) -> None:
    """The SDK's object of a body gives what the body does."""
    body = recorded(name)
    model = getattr(pytest.importorskip(module), kind)

    assert extract_usage(model.construct(**body)) == extract_usage(body)


def test_anthropic_stream_of_the_sdk() -> None:
    """The SDK's events give what their bodies do, counts that they leave out included."""
    types = pytest.importorskip("anthropic.types")
    start, delta = recorded("anthropic_stream")

    found = anthropic_message(
        types.RawMessageDeltaEvent.construct(**delta),
        start=types.RawMessageStartEvent.construct(**start),
    )

    assert found == anthropic_message(delta, start=start)


def litellm_answer(usage: dict[str, Any] | None, provider: str) -> Any:
    litellm_types = pytest.importorskip("litellm.types.utils")
    answer = litellm_types.ModelResponse(
        id="chatcmpl-1",
        model="some-model",
        usage=None if usage is None else litellm_types.Usage(**usage),
    )
    answer._hidden_params = {"custom_llm_provider": provider}
    return answer


@READ_ONLY
def test_litellm() -> None:
    """LiteLLM's usage is inclusive for every provider, and its provider is known."""
    usage = {
        "prompt_tokens": 105,
        "completion_tokens": 9,
        "total_tokens": 114,
        "cache_read_input_tokens": 30,
        "cache_creation_input_tokens": 25,
    }

    assert extract_usage(litellm_answer(usage, "anthropic")) == Extracted(
        usage=TokenUsage(
            input_tokens=105, output_tokens=9, cache_read_tokens=30, cache_creation_tokens=25
        ),
        model="some-model",
        provider="anthropic",
        response_id="chatcmpl-1",
    )


@READ_ONLY
def test_litellm_of_a_known_provider() -> None:
    """Reasoning that LiteLLM has added to the completion is not added again."""
    usage = {
        "prompt_tokens": 32,
        "completion_tokens": 103,
        "total_tokens": 135,
        "completion_tokens_details": {"reasoning_tokens": 94},
    }

    assert extract_usage(litellm_answer(usage, "xai")).usage == TokenUsage(
        input_tokens=32, output_tokens=103, reasoning_tokens=94
    )


@READ_ONLY
def test_litellm_tool_results_are_no_thoughts() -> None:
    """What LiteLLM leaves out of a grounded prompt is not taken for Gemini's thoughts."""
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 24,
        "total_tokens": 183,
        "prompt_tokens_details": {"tool_use_tokens": 150},
    }

    assert extract_usage(litellm_answer(usage, "gemini")).usage == TokenUsage(
        input_tokens=9, output_tokens=24, total_tokens=183
    )


@READ_ONLY
@pytest.mark.parametrize("usage", [None, {"prompt_tokens": 0, "completion_tokens": 0}])
def test_litellm_zeros_are_no_usage(usage: dict[str, int] | None) -> None:
    """LiteLLM fills in zeros where the provider is silent: that is unreported, not 0."""
    assert extract_usage(litellm_answer(usage, "openai")).usage is None


def ai_message(**fields: Any) -> Any:
    return pytest.importorskip("langchain_core.messages").AIMessage(content="Paris.", **fields)


USAGE_METADATA = {
    "input_tokens": 11,
    "output_tokens": 7,
    "total_tokens": 18,
    "input_token_details": {"cache_read": 4},
    "output_token_details": {"reasoning": 2},
}


def test_langchain_message() -> None:
    """A message gives its usage, model, provider and the provider's id of the response."""
    message = ai_message(
        id="lc_run--1",
        usage_metadata=USAGE_METADATA,
        response_metadata={
            "id": "chatcmpl-1",
            "model_name": "gpt-4o-2024-08-06",
            "model_provider": "google_genai",
            "service_tier": "Default",
        },
    )
    structured = {"raw": message, "parsed": None, "parsing_error": None}

    assert extract_usage(message) == Extracted(
        usage=D,
        model="gpt-4o-2024-08-06",
        provider="gemini",
        response_id="chatcmpl-1",
        service_tier="default",
    )
    assert extract_usage(structured) == extract_usage(message)


def test_langchain_message_of_a_tier() -> None:
    """The tier in front of the details is the one that served the call."""
    flex = {**USAGE_METADATA, "input_token_details": {"flex_cache_read": 4, "flex": 7}}
    message = ai_message(id="msg_1", usage_metadata=flex)

    assert extract_usage(message) == Extracted(
        usage=TokenUsage(input_tokens=11, output_tokens=7, cache_read_tokens=4, reasoning_tokens=2),
        response_id="msg_1",
        service_tier="flex",
    )


@pytest.mark.parametrize(
    ("about", "usage"),
    [
        ({"token_usage": {"prompt_tokens": 11, "completion_tokens": 7}}, (11, 7)),
        (
            {"usage": {"input_tokens": 11, "cache_read_input_tokens": 4, "output_tokens": 7}},
            (15, 7),
        ),
        ({"usage": {"what": "is this"}}, None),
        ({"model_name": "silent"}, None),
    ],
)
def test_langchain_message_without_usage_metadata(
    about: dict[str, Any], usage: tuple[int, int] | None
) -> None:
    """A message without usage metadata is read by what the provider sent, else unreported."""
    found = extract_usage(ai_message(response_metadata=about)).usage

    assert (found and (found.input_tokens, found.output_tokens)) == usage


def test_langchain_result() -> None:
    """The first choice of each prompt counts: every choice repeats the prompt's usage."""
    outputs = pytest.importorskip("langchain_core.outputs")
    choice = outputs.ChatGeneration(message=ai_message(usage_metadata=USAGE_METADATA))
    result = outputs.LLMResult(
        generations=[[choice, choice, choice], [choice]], llm_output={"model_name": "gpt-4o"}
    )

    assert extract_usage(result) == Extracted(usage=D + D, model="gpt-4o")
    assert extract_usage(outputs.ChatResult(generations=[choice, choice])).usage == D


def test_langchain_result_of_a_legacy_model() -> None:
    """Legacy models report through `llm_output`; one that says nothing is unreported."""
    outputs = pytest.importorskip("langchain_core.outputs")
    usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
    generations = [[outputs.Generation(text="Paris.")]]
    told = outputs.LLMResult(
        generations=generations,
        llm_output={"token_usage": usage, "model_name": "gpt-3.5-turbo-instruct"},
    )

    assert extract_usage(told) == Extracted(
        usage=TokenUsage(input_tokens=11, output_tokens=7),
        model="gpt-3.5-turbo-instruct",
        operation="completion",
    )
    assert extract_usage(outputs.LLMResult(generations=generations)).usage is None


def llamaindex_answer(raw: Any, **kwargs: Any) -> Any:
    types = pytest.importorskip("llama_index.core.base.llms.types")
    return types.CompletionResponse(text="Paris.", raw=raw, **kwargs)


@pytest.mark.parametrize(
    "name",
    [
        "openai_chat",
        "openai_responses",
        "openai_responses_failed_event",
        "anthropic_message",
        "gemini",
        "bedrock_converse",
        "groq_last_chunk",
        "cohere_chat",
        "ollama_chat",
    ],
)
def test_llamaindex_raw(name: str) -> None:
    """The raw response within LlamaIndex's gives what it gives alone."""
    body = recorded(name)

    assert extract_usage(llamaindex_answer(body)) == extract_usage(body)


def test_llamaindex_raw_within_raw() -> None:
    """Older Gemini integrations keep Vertex's response one step further in."""
    inner = SimpleNamespace(usage_metadata=SimpleNamespace(prompt_token_count=11))
    answer = llamaindex_answer(SimpleNamespace(_raw_response=inner))

    assert extract_usage(answer).usage == TokenUsage(input_tokens=11)


@pytest.mark.parametrize(
    ("raw", "extra", "usage"),
    [
        (None, {"usage": {"prompt_tokens": 11, "completion_tokens": 7}}, (11, 7)),
        ({"choices": []}, {"prompt_tokens": 11, "completion_tokens": 7}, (11, 7)),
        ({"choices": []}, {}, None),
        ({"what": "is this"}, {}, None),
        (None, {}, None),
    ],
)
def test_llamaindex_additional_kwargs(
    raw: Any, extra: dict[str, Any], usage: tuple[int, int] | None
) -> None:
    """Without a raw usage the additional arguments are read; else it is unreported."""
    found = extract_usage(llamaindex_answer(raw, additional_kwargs=extra)).usage

    assert (found and (found.input_tokens, found.output_tokens)) == usage


def test_xai_sdk() -> None:
    """xAI's own SDK keeps the model and the searches outside the usage."""
    usage = {
        "prompt_tokens": 32,
        "completion_tokens": 9,
        "reasoning_tokens": 94,
        "total_tokens": 135,
        "cached_prompt_text_tokens": 6,
        "prompt_image_tokens": 5,
        "num_sources_used": 0,
        "cost_in_usd_ticks": 0,
    }
    kind = type("Response", (SimpleNamespace,), {"__module__": "xai_sdk.chat"})
    answer = kind(
        id="a3d1",
        usage=SimpleNamespace(**usage),
        proto=SimpleNamespace(model="grok-4-0709"),
        server_side_tool_usage={"SERVER_SIDE_TOOL_WEB_SEARCH": 1, "SERVER_SIDE_TOOL_X_SEARCH": 2},
    )

    assert extract_usage(answer) == Extracted(
        usage=TokenUsage(
            input_tokens=32,
            output_tokens=103,
            cache_read_tokens=6,
            reasoning_tokens=94,
            image_input_tokens=5,
            web_search_requests=3,
        ),
        model="grok-4-0709",
        provider="xai",
        response_id="a3d1",
    )
