"""
Answers from LiteLLM's cache, for which nobody is billed.

Its callbacks tell of them too late for a framework's call around, whose answer looks like any
other and would be counted.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any

from agentsight_tokens.faults import guarded

from .calls import CallTable
from .patches import Patches

__all__ = ["watch_caches"]


def watch_caches(module: ModuleType, table: CallTable, patches: Patches) -> None:
    """
    Drop the calls that the cache answers.

    Args:
        module: `litellm.caching.caching_handler`.
        table: The calls under way.
        patches: What to add to.
    """

    def watched(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def get_cache(self: Any, *args: Any, **kwargs: Any) -> Any:
            found = original(self, *args, **kwargs)
            _look(found, kwargs, table)
            return found

        return get_cache

    def watched_async(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        @functools.wraps(original)
        async def get_cache(self: Any, *args: Any, **kwargs: Any) -> Any:
            found = await original(self, *args, **kwargs)
            _look(found, kwargs, table)
            return found

        return get_cache

    owner = module.LLMCachingHandler
    for name in ("sync_get_cache", "_sync_get_cache"):
        patches.replace(owner, name, watched)
    for name in ("async_get_cache", "_async_get_cache"):
        patches.replace(owner, name, watched_async)


@guarded
def _look(found: Any, asked: dict[str, Any], table: CallTable) -> None:
    if found is None:
        return
    # Of a batch of embeddings some may be cached; the others are sent.
    is_partial = getattr(found, "final_embedding_cached_response", None) is not None
    is_hit = getattr(found, "cached_result", None) is not None and not is_partial
    if is_hit or getattr(found, "embedding_all_elements_cache_hit", False):
        table.nothing_sent(getattr(asked.get("logging_obj"), "model_call_details", None))
