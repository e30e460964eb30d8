"""The table of scenarios."""

from __future__ import annotations

from typing import Any, Final

from agentsight_tokens.conformance.clients import drain, run
from agentsight_tokens.conformance.scenario import Scenario
from agentsight_tokens.conformance.workers import CALLS, SHARES

from . import acts
from .clients import D, asked, prompts

__all__ = ["SCENARIOS"]

TRIPLE: Final = ["[[in=1 out=2]]", "[[in=3 out=4]]", "[[in=5 out=6]]"]
PLAIN: Final = "[[in=11 out=7]]"
CLAUDE: Final = "[[in=20 out=7 cached=4 written=5 written_1h=2]]"
OUTPUT_ONLY: Final = "[[in=18 out=7 cached=4 written=3 mode=output_only]]"

ONE: Final[dict[str, Any]] = {"prompt": 11, "completion": 7}
FULL: Final[dict[str, Any]] = {**ONE, "cached": 4, "reasoning": 2}
SUMS: Final[dict[str, Any]] = {"prompt": 9, "completion": 12}
AGENT: Final[dict[str, Any]] = {"prompt": 22, "completion": 14, "calls": 2}
CACHED: Final[dict[str, Any]] = {"prompt": 18, "completion": 7, "cached": 4, "written": 3}
LIFETIMES: Final[dict[str, Any]] = {"prompt": 20, "completion": 7, "cached": 4, "written": 5}
UNREPORTED: Final[dict[str, Any]] = {"unreported": 1, "is_told": False}


def _responses(kit: Any) -> Any:
    return kit.openai(use_responses_api=True)


def _twice(kit: Any) -> dict[str, Any]:
    return {"callbacks": kit.callbacks_twice()}


SCENARIOS: Final = (
    Scenario("1 invoke", lambda k: k.openai().invoke(D), **FULL),
    Scenario("1 ainvoke", lambda k: run(k.openai().ainvoke(D)), **FULL),
    Scenario("1 built before", lambda k: k.built.invoke(D), build=lambda k: k.openai(), **FULL),
    Scenario("1 stream", lambda k: list(k.openai().stream(D)), **FULL),
    Scenario("1 astream", lambda k: run(drain(k.openai().astream(D))), **FULL),
    Scenario("2 batch", lambda k: k.openai().batch(TRIPLE), **SUMS, calls=3),
    Scenario("2 abatch", lambda k: run(k.openai().abatch(TRIPLE)), **SUMS, calls=3),
    Scenario("2 generate", lambda k: k.openai().generate(prompts(TRIPLE[:2])), 4, 6, calls=2),
    Scenario("2 n=3", lambda k: k.openai(n=3).generate(prompts([PLAIN])), 11, 21),
    Scenario(
        "2 second prompt fails",
        acts.second_prompt_fails,
        **ONE,
        calls=2,
    ),
    Scenario("2 third prompt fails", acts.third_prompt_fails, 4, 6, calls=3),
    Scenario("2 one of three fails", acts.one_of_three_fails, 4, 6, calls=3),
    Scenario("2 agenerate n=3", acts.agenerate_choices, 14, 33, calls=2),
    Scenario("2 n=3 stream", lambda k: list(k.openai(n=3).stream(PLAIN)), 11, 21),
    Scenario(
        "2 batch as completed",
        lambda k: list(k.openai().batch_as_completed(TRIPLE)),
        **SUMS,
        calls=3,
    ),
    Scenario("2 model of a model", acts.wrapped, **FULL),
    Scenario("2 model of a model async", acts.awrapped, **FULL),
    Scenario("3 json schema", acts.json_schema, **FULL),
    Scenario("3 function calling", acts.function_calling, **FULL),
    Scenario("3 invalid json", acts.invalid_json, **FULL),
    Scenario("3 invalid json async", acts.invalid_json_async, **FULL),
    Scenario("3 cut json", acts.cut_json, **FULL),
    Scenario("3 Anthropic", acts.anthropic_structured, **ONE),
    Scenario("4 agent invoke", lambda k: k.agent().invoke(asked()), **AGENT),
    Scenario("4 agent ainvoke", lambda k: run(k.agent().ainvoke(asked())), **AGENT),
    Scenario(
        "4 agent events",
        lambda k: run(drain(k.agent().astream_events(asked(), version="v2"))),
        **AGENT,
    ),
    Scenario(
        "4 agent messages",
        lambda k: list(k.agent().stream(asked(), stream_mode="messages")),
        **AGENT,
    ),
    Scenario("4 model in tool", acts.model_in_tool, 122, 64, calls=3),
    Scenario("5 responses invoke", lambda k: _responses(k).invoke(D), **FULL),
    Scenario("5 responses ainvoke", lambda k: run(_responses(k).ainvoke(D)), **FULL),
    Scenario("5 responses stream", lambda k: list(_responses(k).stream(D)), **FULL),
    Scenario("5 responses astream", lambda k: run(drain(_responses(k).astream(D))), **FULL),
    Scenario("5 response failed", acts.failed_response, **FULL),
    Scenario("5 response failed streamed", acts.failed_response_streamed, **FULL),
    Scenario("6 legacy invoke", lambda k: k.legacy().invoke(PLAIN), **ONE),
    Scenario("6 legacy ainvoke", lambda k: run(k.legacy().ainvoke(PLAIN)), **ONE),
    Scenario("6 legacy batch", lambda k: k.legacy().batch(TRIPLE), **SUMS),
    Scenario("6 legacy abatch", lambda k: run(k.legacy().abatch(TRIPLE)), **SUMS),
    Scenario(
        "6 legacy stream",
        lambda k: list(k.legacy().stream(PLAIN)),
        only_wire_tells=True,
        **ONE,
    ),
    Scenario(
        "6 legacy astream",
        lambda k: run(drain(k.legacy().astream(PLAIN))),
        only_wire_tells=True,
        **ONE,
    ),
    Scenario("6 legacy n=2", lambda k: k.legacy(n=2, best_of=2).invoke(PLAIN), 11, 14),
    Scenario("7 cache", acts.cached, **FULL),
    Scenario("7 cache in SQLite", acts.cached_in_sqlite, **FULL),
    Scenario("7 cache of a batch", acts.cached_batch, 12, 15, calls=3),
    Scenario("7 cache of a batch async", acts.acached_batch, 12, 15, calls=3),
    Scenario("7 cache, legacy", acts.cached_legacy, **ONE),
    Scenario("7 cache, streaming", acts.cached_streaming, **FULL),
    Scenario("7 cache async", acts.acached, **FULL),
    Scenario("8 with_retry", acts.retried, calls=2, **FULL),
    Scenario("8 SDK retry", acts.retried_by_sdk, **FULL),
    Scenario("8 fallback", acts.fallen_back, calls=2, **FULL),
    Scenario("8 fallback streamed", acts.fallen_back_stream, calls=2, **FULL),
    Scenario("8 third attempt", acts.third_attempt, calls=3, **FULL),
    Scenario("8 parsed again", acts.parsed_again, 22, 14, cached=8, reasoning=4, calls=2),
    Scenario(
        "9 every chunk",
        lambda k: list(k.openai().stream("[[in=11 out=7 mode=every_chunk]]")),
        **ONE,
    ),
    Scenario(
        "9 every chunk async",
        lambda k: run(drain(k.openai().astream("[[in=31 out=9 mode=every_chunk chunks=6]]"))),
        31,
        9,
    ),
    *(
        Scenario(
            f"9 {mode}",
            lambda k, mode=mode: list(k.openai().stream(f"[[in=11 out=7 mode={mode}]]")),  # type: ignore[misc]  # no type of its own
            **ONE,
        )
        for mode in ("last_content_chunk", "second_last_chunk")
    ),
    Scenario("9 broken", acts.broken, 20, 4, is_told=False),
    Scenario("9 abandoned", acts.abandoned, 11, 3, is_told=False),
    Scenario("9 closed early", acts.closed_early, **UNREPORTED),
    Scenario(
        "10 Anthropic cache",
        lambda k: k.anthropic().invoke("[[in=18 out=7 cached=4 written=3]]"),
        **CACHED,
    ),
    Scenario(
        "10 Anthropic lifetimes",
        lambda k: k.anthropic().invoke(CLAUDE),
        written_1h=2,
        **LIFETIMES,
    ),
    Scenario(
        # langchain-anthropic drops `message_start`, the only event that tells the lifetimes.
        "10 Anthropic lifetimes streamed",
        lambda k: list(k.anthropic().stream(CLAUDE)),
        written_1h=2,
        only_wire_tells=True,
        **LIFETIMES,
    ),
    Scenario(
        "10 Anthropic output only",
        lambda k: list(k.anthropic().stream(OUTPUT_ONLY)),
        only_wire_tells=True,
        **CACHED,
    ),
    Scenario(
        "10 Anthropic deltas",
        lambda k: list(k.anthropic().stream("[[in=11 out=8 deltas=2]]")),
        11,
        8,
    ),
    Scenario(
        "10 Anthropic deltas, output only",
        lambda k: list(k.anthropic().stream("[[in=21 out=9 deltas=3 mode=output_only]]")),
        21,
        9,
        only_wire_tells=True,
    ),
    Scenario(
        "10 Anthropic astream",
        lambda k: run(drain(k.anthropic().astream("[[in=18 out=7 cached=4 written=3]]"))),
        **CACHED,
    ),
    Scenario("11 flex", lambda k: k.openai(service_tier="flex").invoke(D), **FULL),
    Scenario("11 priority", lambda k: k.openai(service_tier="priority").invoke(D), **FULL),
    Scenario("12 no callbacks", lambda k: k.openai().invoke(D, {"callbacks": []}), **FULL),
    Scenario(
        "12 own manager",
        lambda k: k.openai().invoke(D, {"callbacks": k.own_manager()}),
        **FULL,
    ),
    Scenario("12 bare thread", acts.in_thread, conversation="default", **FULL),
    Scenario("12 twice", lambda k: k.openai().invoke(D, _twice(k)), **FULL),
    Scenario("12 twice async", lambda k: run(k.openai().ainvoke(D, _twice(k))), **FULL),
    Scenario("12 twice legacy", lambda k: k.legacy().invoke(PLAIN, _twice(k)), **ONE),
    Scenario("13 drained elsewhere", acts.drained_elsewhere, **ONE),
    Scenario("13 drained in a thread", acts.drained_in_thread, **ONE),
    Scenario("13 drained in a task", acts.drained_in_task, **ONE),
    Scenario("13 two at a time", acts.two_at_a_time, 30, 12, calls=2, shares=acts.TWO),
    Scenario("14 embeddings", acts.embed, embedding=16, calls=2),
    Scenario("14 embeddings cached", acts.embed_cached, embedding=7),
    Scenario("14 embeddings in a store", acts.embed_in_store, embedding=16, calls=2),
    Scenario("15 silent stream", lambda k: list(k.openai().stream("[[mode=never]]")), **UNREPORTED),
    Scenario("15 silent invoke", lambda k: k.openai().invoke("[[mode=never]]"), **UNREPORTED),
    Scenario("15 cancelled", acts.cancelled, **UNREPORTED),
    Scenario("15 broken", acts.broken_silently, **UNREPORTED),
    Scenario("15 let go", acts.let_go, **UNREPORTED),
    Scenario("15 status 400", acts.refused),
    Scenario(
        "16 many workers",
        acts.many_workers,
        sum(given for given, _ in SHARES.values()),
        sum(made for _, made in SHARES.values()),
        calls=CALLS,
        shares=SHARES,
    ),
)
"""Every way in which LangChain calls a model, with the number of its rule."""
