"""What the tests of the LiteLLM handler share: the real LiteLLM and a real tracker."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else its import asks the network

import litellm
import pytest

from agentsight_tokens import ConversationTracker, TokenConfig, UsageRecord, UsageSummary
from agentsight_tokens.handlers import deactivate
from agentsight_tokens.testing import LoopbackProvider, Reply

__all__ = [
    "QUIET",
    "A",
    "D",
    "Kit",
    "cache",
    "drain",
    "handler_kit",
    "litellm",
    "messages",
    "run",
    "told",
]

D = "hi [[in=101 out=7 cached=40 reasoning=2]]"
"""A prompt that bills what the research's provider bills for OpenAI."""

A = "hi [[in=105 out=9 cached=30 written=25]]"
"""The same for Anthropic, whose own counts are then 50, 30, 25 and 9."""

QUIET = [
    # LiteLLM's own: its models do not fit its types, and it leaves clients and tasks open.
    pytest.mark.filterwarnings("ignore::UserWarning:pydantic"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore:.*was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

litellm.suppress_debug_info = True
for name in ("LiteLLM", "LiteLLM Router"):
    logging.getLogger(name).setLevel(logging.CRITICAL)


class Kit:
    """A provider, and a tracker that the handler counts for."""

    def __init__(self, provider: LoopbackProvider, tracker: ConversationTracker) -> None:
        self.provider = provider
        self.tracker = tracker

    @property
    def openai(self) -> dict[str, Any]:
        base = self.provider.openai_url
        return {"model": "openai/gpt-4o-mini", "api_base": base, "api_key": "k", "max_retries": 0}

    @property
    def anthropic(self) -> dict[str, Any]:
        base = self.provider.anthropic_url
        return {"model": "anthropic/claude-haiku-4-5", "api_base": base, "api_key": "k"}

    @property
    def azure(self) -> dict[str, Any]:
        version = "2024-10-21"
        base = self.provider.url
        return {"model": "azure/gpt-4o", "api_base": base, "api_key": "k", "api_version": version}

    @property
    def gemini(self) -> dict[str, Any]:
        base = self.provider.gemini_url
        return {"model": "gemini/gemini-2.5-flash", "api_base": base, "api_key": "k"}

    @property
    def embedding(self) -> dict[str, Any]:
        return {**self.openai, "model": "openai/text-embedding-3-small"}

    @property
    def legacy(self) -> dict[str, Any]:
        return {**self.openai, "model": "text-completion-openai/gpt-3.5-turbo-instruct"}

    def router(self, **options: Any) -> litellm.Router:
        """Return a router whose first deployment is tried twice, and then the second."""
        models = [
            {"model_name": name, "litellm_params": {**self.openai, "model": model}}
            for name, model in (("first", "openai/gpt-4o-mini"), ("second", "openai/gpt-4o"))
        ]
        return litellm.Router(
            model_list=models,
            fallbacks=[{"first": ["second"]}],
            num_retries=1,
            retry_after=0,
            **options,
        )

    def failing(self, times: int) -> None:
        """Answer the next requests with a failure of the server."""
        self.provider.enqueue(*[Reply(status=500)] * times)

    def usage(self, **where: Any) -> UsageSummary:
        return self.tracker.get_usage(**where)

    def records(self, **where: Any) -> list[UsageRecord]:
        return self.tracker.get_usage_history(**where)

    def record(self) -> UsageRecord:
        """Return the only record."""
        (record,) = self.records()
        return record


def messages(text: str = D) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine in an event loop of its own."""
    return asyncio.run(work)


async def drain(stream: Any) -> list[Any]:
    return [each async for each in await stream]


def told_in_the_end(kit: Kit, expected: tuple[int, ...]) -> tuple[int, ...]:
    """Return what is told, once LiteLLM's threads and tracebacks let go of its streams."""
    until = time.monotonic() + 20
    while (found := told(kit.usage())) != expected and time.monotonic() < until:
        gc.collect()
        time.sleep(0.01)
    return found


def told(usage: UsageSummary) -> tuple[int, ...]:
    """Return what a scenario is known by: in, out, total, embedding, cached, unreported."""
    return (
        usage.input_tokens,
        usage.output_tokens,
        usage.total_tokens,
        usage.embedding_tokens,
        usage.cache_read_tokens,
        usage.unreported_calls,
    )


@contextmanager
def handler_kit(
    folder: Path,
    *,
    handlers: str = "litellm",
    configure: Callable[[TokenConfig], TokenConfig] = lambda config: config,
    strict: bool = False,
) -> Iterator[Kit]:
    """Switch handlers on for a block, and leave nothing of them behind."""
    config = configure(TokenConfig(data_dir=str(folder), exit_flush_seconds=0))
    before = {name: list(getattr(litellm, name)) for name in _LISTS}
    # LiteLLM keeps its clients, and never closes those of loops that have ended.
    with LoopbackProvider(keep_alive=False, reject_unknown_stream_options=strict) as provider:
        tracker = ConversationTracker(None, "default", token_handler=handlers, config=config)
        try:
            assert set(tracker.handler_status.values()) == {"active"}
            yield Kit(provider, tracker)
        finally:
            litellm.cache = None
            litellm.custom_provider_map = []
            deactivate()
            tracker.close()
            for name, callbacks in before.items():
                getattr(litellm, name)[:] = callbacks


_LISTS = (
    "callbacks",
    "input_callback",
    "success_callback",
    "failure_callback",
    "_async_success_callback",
    "_async_failure_callback",
)


@contextmanager
def cache() -> Iterator[None]:
    """Switch LiteLLM's cache in memory on."""
    litellm.cache = litellm.Cache()
    try:
        yield
    finally:
        litellm.cache = None
