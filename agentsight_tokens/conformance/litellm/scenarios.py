"""The table of scenarios."""

from __future__ import annotations

from typing import Any, Final

from agentsight_tokens.conformance.clients import drain, run
from agentsight_tokens.conformance.scenario import Scenario
from agentsight_tokens.conformance.workers import CALLS, SHARES

from . import acts
from .clients import D

__all__ = ["SCENARIOS"]

SILENT: Final = "[[mode=never]]"
EVERY: Final = f"{D}[[mode=every_chunk chunks=5]]"
LAST: Final = f"{D}[[mode=last_content_chunk]]"

ONE: Final[dict[str, Any]] = {"prompt": 101, "completion": 7}
FULL: Final[dict[str, Any]] = {**ONE, "cached": 40, "reasoning": 2}
CLAUDE: Final[dict[str, Any]] = {"prompt": 105, "completion": 9, "cached": 30, "written": 25}
UNREPORTED: Final[dict[str, Any]] = {"unreported": 1, "is_told": False}

USAGE: Final[dict[str, Any]] = {"stream": True, "stream_options": {"include_usage": True}}

SCENARIOS: Final = (
    Scenario("2 usage on every chunk", lambda k: list(k.complete(EVERY, stream=True)), **FULL),
    Scenario("2 usage with the content", lambda k: list(k.complete(LAST, stream=True)), **FULL),
    Scenario("8 retried", acts.retried, **FULL),
    Scenario("8 retried async", acts.aretried, **FULL),
    Scenario("8 refused", acts.refused),
    Scenario("9 drained elsewhere", acts.drained_elsewhere, **FULL),
    Scenario(
        "10 many workers",
        acts.many_workers,
        sum(given for given, _ in SHARES.values()),
        sum(made for _, made in SHARES.values()),
        calls=CALLS,
        shares=SHARES,
    ),
    Scenario("11 completion", lambda k: k.complete(), **FULL),
    Scenario("11 acompletion, read at once", lambda k: run(k.acomplete()), **FULL),
    Scenario("11 stream", acts.stream, **FULL),
    Scenario("11 astream", acts.astream, **FULL),
    Scenario("11 stream that is asked", lambda k: list(k.complete(**USAGE)), **FULL),
    Scenario("11 astream that is asked", lambda k: run(drain(k.acomplete(**USAGE))), **FULL),
    Scenario("11 text_completion", acts.text, **FULL),
    Scenario("11 atext_completion", acts.atext, **FULL),
    Scenario("11 cache", acts.cached, **FULL),
    Scenario("11 cache async", acts.acached, **FULL),
    Scenario("11 router", acts.router, calls=3, **FULL),  # an attempt that failed is a call of 0
    Scenario("11 router stream", acts.router_stream, calls=3, **FULL),
    Scenario("11 router async", acts.arouter, calls=3, **FULL),
    Scenario("11 router astream", acts.arouter_stream, calls=3, **FULL),
    Scenario("11 fallbacks", acts.fallbacks, calls=2, **FULL),
    Scenario("11 fallbacks async", acts.afallbacks, calls=2, **FULL),
    Scenario("11 responses", acts.responses, **FULL),
    Scenario("11 responses stream", acts.responses_stream, **FULL),
    Scenario("11 responses astream", acts.responses_astream, **FULL),
    Scenario("11 batch_completion", acts.batch, 303, 21, cached=120, reasoning=6, calls=3),
    Scenario("11 embedding", acts.embed, embedding=7),
    Scenario("11 aembedding", acts.aembed, embedding=7),
    Scenario("11 Anthropic", acts.anthropic, **CLAUDE),
    Scenario("11 Anthropic stream", acts.anthropic_stream, **CLAUDE),
    Scenario("11 Anthropic astream", acts.anthropic_astream, **CLAUDE),
    Scenario("11 named", lambda k: k.complete(**acts.NAMED), conversation="named", **FULL),
    Scenario("11 bare thread", acts.in_bare_thread, conversation="named", **FULL),
    Scenario("11 own callbacks", acts.own_callbacks, **FULL),
    Scenario("12 LangChain above", acts.langchain, **FULL),
    Scenario("12 LangChain above, async", acts.langchain_async, **FULL),
    Scenario("12 LangChain above, stream", acts.langchain_stream, **FULL),
    Scenario("12 LangChain above, astream", acts.langchain_astream, **FULL),
    Scenario("12 LlamaIndex above", acts.llamaindex, **FULL),
    Scenario("12 LlamaIndex above, async", acts.llamaindex_async, **FULL),
    Scenario("12 LlamaIndex above, stream", acts.llamaindex_stream, **FULL),
    Scenario("12 LlamaIndex above, astream", acts.llamaindex_astream, **FULL),
    Scenario("13 silent", lambda k: k.complete(SILENT), **UNREPORTED),
    Scenario("13 silent stream", lambda k: list(k.complete(SILENT, stream=True)), **UNREPORTED),
    Scenario("13 closed", acts.closed, **UNREPORTED),
    Scenario("13 let go", acts.let_go, **UNREPORTED),
    Scenario("13 broken", acts.broken, **UNREPORTED),
    Scenario("13 cancelled", acts.cancelled, **UNREPORTED),
)
"""Every way in which LiteLLM calls a model, with the number of its rule."""
