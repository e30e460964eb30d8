"""What the tests of the LangChain handler share: real clients, a real tracker, a graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from langchain_core.globals import get_llm_cache, set_llm_cache

from agentsight_tokens import ConversationTracker, TokenConfig, UsageRecord, UsageSummary
from agentsight_tokens.conformance.clients import drain, run
from agentsight_tokens.conformance.langchain.clients import D, LangChainClients, lookup
from agentsight_tokens.conformance.langchain.graph import State
from agentsight_tokens.handlers import deactivate
from agentsight_tokens.testing import LoopbackProvider
from agentsight_tokens_langchain.run_events import run_events

__all__ = ["D", "Kit", "State", "drain", "handler_kit", "lookup", "run"]


class Kit(LangChainClients):
    """A provider, a tracker that the handler counts for, and clients of the provider."""

    def __init__(self, provider: LoopbackProvider, tracker: ConversationTracker) -> None:
        super().__init__(provider)
        self.tracker = tracker

    def usage(self, **where: Any) -> UsageSummary:
        self.provider.settle()
        return self.tracker.get_usage(**where)

    def records(self, **where: Any) -> list[UsageRecord]:
        return self.tracker.get_usage_history(**where)

    def record(self) -> UsageRecord:
        """Return the only record."""
        (record,) = self.records()
        return record


@contextmanager
def handler_kit(
    folder: Path, *, configure: Callable[[TokenConfig], TokenConfig] = lambda config: config
) -> Iterator[Kit]:
    """Switch the handler on for a block, and leave nothing of it behind."""
    cache = get_llm_cache()
    config = configure(TokenConfig(data_dir=str(folder), exit_flush_seconds=0))
    # The frameworks leave their asynchronous clients open.
    with LoopbackProvider(keep_alive=False) as provider:
        tracker = ConversationTracker(None, "default", token_handler="langchain", config=config)
        try:
            assert tracker.handler_status == {"langchain": "active"}
            yield Kit(provider, tracker)
        finally:
            set_llm_cache(cache)
            deactivate()
            tracker.close()
            assert not run_events.runs
            assert not run_events.tools.names
