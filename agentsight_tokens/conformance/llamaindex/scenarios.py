"""The table of scenarios."""

from __future__ import annotations

from typing import Any, Final

from llama_index.core.prompts import PromptTemplate

from agentsight_tokens.conformance.clients import drain, run
from agentsight_tokens.conformance.scenario import Scenario

from . import acts
from .clients import A, D, chat

__all__ = ["SCENARIOS"]

OUTPUT_ONLY: Final = "[[in=105 out=9 cached=30 written=25 mode=output_only]]"
SILENT: Final = "[[in=1 out=1 mode=never]]"
PLAIN: Final = "[[in=101 out=7]]"

ONE: Final[dict[str, Any]] = {"prompt": 101, "completion": 7}
FULL: Final[dict[str, Any]] = {**ONE, "cached": 40, "reasoning": 2}
HOURLY: Final = "hi [[in=105 out=9 cached=30 written=25 written_1h=10]]"
CLAUDE: Final[dict[str, Any]] = {"prompt": 105, "completion": 9, "cached": 30, "written": 25}
UNREPORTED: Final[dict[str, Any]] = {"unreported": 1, "is_told": False}


def _complete_legacy(kit: Any) -> Any:
    model = kit.openai(model="gpt-3.5-turbo-instruct", max_tokens=16)
    return list(model.stream_complete("[[in=101 out=7]]"))


def _embed(kit: Any) -> Any:
    return kit.embedding(embed_batch_size=10).get_text_embedding_batch(acts.TEXTS)


def _aembed(kit: Any) -> Any:
    model = kit.embedding(embed_batch_size=10, num_workers=4)
    return run(model.aget_text_embedding_batch(acts.TEXTS))


def _with_own_manager(kit: Any) -> Any:
    return kit.openai(callback_manager=kit.own_manager()).complete(D)


SHARES: Final = acts.shares()

SCENARIOS: Final = (
    Scenario("1 complete", lambda k: k.openai().complete(D), **FULL),
    Scenario("1 chat", lambda k: k.openai().chat(chat(D)), **FULL),
    Scenario("1 acomplete", lambda k: run(k.openai().acomplete(D)), **FULL),
    Scenario("1 achat", lambda k: run(k.openai().achat(chat(D))), **FULL),
    Scenario("1 built before", lambda k: k.built.complete(D), build=lambda k: k.openai(), **FULL),
    Scenario("1 own manager", _with_own_manager, **FULL),
    Scenario("2 stream_chat", lambda k: list(k.openai().stream_chat(chat(D))), **FULL),
    Scenario("2 stream_complete", lambda k: list(k.openai().stream_complete(D)), **FULL),
    Scenario("2 astream_chat", lambda k: run(drain(k.openai().astream_chat(chat(D)))), **FULL),
    Scenario("2 astream_complete", lambda k: run(drain(k.openai().astream_complete(D))), **FULL),
    *(
        Scenario(
            f"2 {mode}",
            lambda k, mode=mode: list(k.openai().stream_complete(acts.stream(mode))),  # type: ignore[misc]  # no type of its own
            **FULL,
        )
        for mode in ("last_content_chunk", "second_last_chunk", "every_chunk")
    ),
    Scenario("2 legacy stream", _complete_legacy, **ONE),
    Scenario("2 n=3", lambda k: k.openai(additional_kwargs={"n": 3}).chat(chat(PLAIN)), 101, 21),
    Scenario("2 predict", lambda k: k.openai().predict(PromptTemplate(D)), **FULL),
    Scenario("3 responses chat", lambda k: k.responses().chat(chat(D)), **FULL),
    Scenario("3 responses achat", lambda k: run(k.responses().achat(chat(D))), **FULL),
    Scenario("3 responses stream", lambda k: list(k.responses().stream_chat(chat(D))), **FULL),
    Scenario(
        "3 responses astream",
        lambda k: run(drain(k.responses().astream_chat(chat(D)))),
        **FULL,
    ),
    Scenario("3 responses predict", acts.responses_predict, only_wire_tells=True, **FULL),
    Scenario("3 responses apredict", acts.responses_apredict, only_wire_tells=True, **FULL),
    Scenario("3 response failed", acts.failed_response, **FULL),
    Scenario("3 response failed streamed", acts.failed_response_streamed, **FULL),
    Scenario("4 Anthropic complete", lambda k: k.anthropic().complete(A), **CLAUDE),
    Scenario("4 Anthropic acomplete", lambda k: run(k.anthropic().acomplete(A)), **CLAUDE),
    Scenario("4 Anthropic stream", lambda k: list(k.anthropic().stream_chat(chat(A))), **CLAUDE),
    Scenario(
        "4 Anthropic stream, output only",
        lambda k: list(k.anthropic().stream_chat(chat(OUTPUT_ONLY))),
        only_wire_tells=True,
        **CLAUDE,
    ),
    Scenario(
        "4 Anthropic stream_complete, output only",
        lambda k: list(k.anthropic().stream_complete(OUTPUT_ONLY)),
        only_wire_tells=True,
        **CLAUDE,
    ),
    Scenario(
        "4 Anthropic astream, output only",
        lambda k: run(drain(k.anthropic().astream_chat(chat(OUTPUT_ONLY)))),
        only_wire_tells=True,
        **CLAUDE,
    ),
    Scenario("4 Anthropic predict", acts.anthropic_predict, only_wire_tells=True, **CLAUDE),
    Scenario(
        "4 Anthropic lifetimes",
        lambda k: k.anthropic().chat(chat(HOURLY)),
        written_1h=10,
        **CLAUDE,
    ),
    Scenario(
        # llama-index-llms-anthropic keeps to itself what `message_start` tells of lifetimes.
        "4 Anthropic lifetimes streamed",
        lambda k: list(k.anthropic().stream_chat(chat(HOURLY))),
        written_1h=10,
        only_wire_tells=True,
        **CLAUDE,
    ),
    Scenario("5 custom chat", lambda k: k.custom().chat(chat(D)), **FULL),
    Scenario("5 custom achat", lambda k: run(k.custom().achat(chat(D))), **FULL),
    Scenario("5 custom stream", lambda k: list(k.custom().stream_chat(chat(D))), **FULL),
    Scenario("5 custom astream", lambda k: run(drain(k.custom().astream_chat(chat(D)))), **FULL),
    Scenario("5 structured", acts.structured_model, **ONE),
    Scenario("5 structured json", acts.structured_json, **FULL),
    Scenario("5 structured responses", acts.structured_responses, only_wire_tells=True, **FULL),
    Scenario("5 structured stream", acts.structured_stream, **FULL),
    Scenario("5 structured predict, streamed", acts.predict_streamed, **FULL),
    Scenario("5 structured predict, invalid", acts.predict_invalid, **FULL),
    Scenario("6 batches", _embed, embedding=325, calls=3),
    Scenario("6 batches async", _aembed, embedding=325, calls=3),
    Scenario("6 cached", acts.embed_cached, embedding=13),
    Scenario("6 cached batch", acts.embed_cached_batch, embedding=13),
    Scenario("6 index and query", acts.index_and_query, embedding=52, calls=3, **FULL),
    Scenario("6 index and stream", acts.index_and_stream, embedding=52, calls=3, **FULL),
    Scenario("6 cached in part", acts.embed_cached_partly, embedding=12, calls=2),
    Scenario("6 chat engine streamed", acts.chat_engine, embedding=52, calls=3, **FULL),
    Scenario("7 agent", acts.agent, 202, 14, calls=2),
    Scenario("7 agent of Responses", acts.responses_agent, 202, 14, calls=2),
    Scenario("7 agent of Anthropic", acts.anthropic_agent, 202, 14, calls=2),
    Scenario("7 agent without streams", acts.plain_agent, 202, 14, calls=2),
    Scenario("7 two agents", acts.two_agents, 303, 21, calls=3),
    Scenario("7 model in tool", acts.model_in_tool, 302, 64, calls=3),
    Scenario("8 retried", acts.retried, **FULL),
    Scenario("8 refused", acts.refused),
    Scenario("9 drained elsewhere", acts.drained_elsewhere, **FULL),
    Scenario("9 drained in a task", acts.drained_in_task, **FULL),
    Scenario("9 two at a time", acts.two_at_a_time, 30, 12, calls=2, shares=acts.TWO),
    Scenario(
        "10 many conversations",
        acts.many_conversations,
        sum(given for given, _ in SHARES.values()),
        sum(made for _, made in SHARES.values()),
        calls=acts.CONVERSATIONS * acts.CALLS_OF_CONVERSATION,
        shares=SHARES,
    ),
    Scenario("13 silent", lambda k: k.openai().complete(SILENT), **UNREPORTED),
    Scenario("13 silent stream", lambda k: list(k.openai().stream_complete(SILENT)), **UNREPORTED),
    Scenario("13 closed", acts.closed, **UNREPORTED),
    Scenario("13 let go", acts.let_go, **UNREPORTED),
    Scenario("13 aclosed", acts.aclosed, **UNREPORTED),
    Scenario("13 closed, told", acts.closed_told, 20, 6, is_told=False),
    Scenario("13 cancelled", acts.cancelled, **UNREPORTED),
    Scenario("13 broken", acts.broken, **UNREPORTED),
    Scenario("13 never drained", acts.never_drained, calls=0),
)
"""Every way in which LlamaIndex calls a model, with the number of its rule."""
