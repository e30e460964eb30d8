"""The table of scenarios."""

from __future__ import annotations

from typing import Any, Final

from agentsight_tokens.conformance.clients import run
from agentsight_tokens.conformance.scenario import Scenario

from . import acts

__all__ = ["SCENARIOS"]

SILENT: Final = "[[mode=never]]"

ONE: Final[dict[str, Any]] = {"prompt": 101, "completion": 7}
FULL: Final[dict[str, Any]] = {**ONE, "cached": 40, "reasoning": 2}
CLAUDE: Final[dict[str, Any]] = {"prompt": 105, "completion": 9, "cached": 30, "written": 25}
UNREPORTED: Final[dict[str, Any]] = {"unreported": 1, "is_told": False}

SCENARIOS: Final = (
    Scenario("11 completion", lambda k: k.complete(), **FULL),
    Scenario("11 acompletion, read at once", lambda k: run(k.acomplete()), **FULL),
    Scenario("11 stream", acts.stream, **FULL),
    Scenario("11 astream", acts.astream, **FULL),
    Scenario("11 cache", acts.cached, **FULL),
    Scenario("11 cache async", acts.acached, **FULL),
    Scenario("11 retried", acts.retried, **FULL),
    Scenario("11 router", acts.router, calls=3, **FULL),  # an attempt that failed is a call of 0
    Scenario("11 router async", acts.arouter, calls=3, **FULL),
    Scenario("11 fallbacks", acts.fallbacks, calls=2, **FULL),
    Scenario("11 responses", acts.responses, **FULL),
    Scenario("11 responses stream", acts.responses_stream, **FULL),
    Scenario("11 responses astream", acts.responses_astream, **FULL),
    Scenario("11 batch_completion", acts.batch, 303, 21, cached=120, reasoning=6, calls=3),
    Scenario("11 embedding", acts.embed, embedding=7),
    Scenario("11 aembedding", acts.aembed, embedding=7),
    Scenario("11 Anthropic", acts.anthropic, **CLAUDE),
    Scenario("11 Anthropic stream", acts.anthropic_stream, **CLAUDE),
    Scenario("11 drained elsewhere", acts.drained_elsewhere, **FULL),
    Scenario("11 refused", acts.refused),
    Scenario("12 LangChain above", acts.langchain, **FULL),
    Scenario("12 LangChain above, stream", acts.langchain_stream, **FULL),
    Scenario("12 LlamaIndex above", acts.llamaindex, **FULL),
    Scenario("12 LlamaIndex above, stream", acts.llamaindex_stream, **FULL),
    Scenario("13 silent stream", lambda k: list(k.complete(SILENT, stream=True)), **UNREPORTED),
    Scenario("13 closed", acts.closed, **UNREPORTED),
)
"""Every way in which LiteLLM calls a model, with the number of its rule."""
