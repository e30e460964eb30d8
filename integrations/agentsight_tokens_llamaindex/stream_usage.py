"""
Asks OpenAI's streams for their usage, which LlamaIndex never does by itself.

A server that does not know the request's field refuses it; then the stream is asked for
again without it, and that server is not asked any more.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import ModuleType
from typing import Any, Final

from agentsight_tokens.faults import contained
from agentsight_tokens_wire.errors import http_status
from agentsight_tokens_wire.patches import Patches

from .providers import is_openai_like

__all__ = ["ask_for_stream_usage"]

_FIELDS: Final = ("stream_options", "include_usage")


class _Servers:
    """What is known of the servers that streams are asked of, by their address."""

    def __init__(self, patches: Patches) -> None:
        self._patches = patches
        self.accepting: set[Any] = set()
        self.refusing: set[Any] = set()

    def may_be_asked(self, model: Any) -> bool:
        """Tell whether to ask; a class for whatever server may be one that refuses."""
        return (
            self._patches.is_on
            and not is_openai_like(type(model))
            and model.api_base not in self.refusing
        )

    def is_unknown(self, model: Any) -> bool:
        """Tell whether this may be the first stream from a server that refuses."""
        return self.may_be_asked(model) and model.api_base not in self.accepting

    def has_refused(self, model: Any, error: Exception) -> bool:
        """Tell whether a server refused what we added, and remember it."""
        is_refusal = http_status(error) in (400, 422) and any(
            field in str(error) for field in _FIELDS
        )
        if is_refusal:
            self.refusing.add(model.api_base)
        return is_refusal


def ask_for_stream_usage(patches: Patches) -> None:
    """Patch llama-index-llms-openai when it is imported."""

    def patch(module: ModuleType) -> None:
        servers = _Servers(patches)
        model = module.OpenAI
        patches.replace(model, "_get_model_kwargs", lambda method: _asking(method, servers))
        for name in ("_stream_chat", "_stream_complete"):
            patches.replace(model, name, lambda method: _retreating(method, servers))
        for name in ("_astream_chat", "_astream_complete"):
            patches.replace(model, name, lambda method: _retreating_async(method, servers))

    patches.after_import("llama_index.llms.openai.base", patch)


def _asking(original: Callable[..., dict[str, Any]], servers: _Servers) -> Callable[..., Any]:
    @functools.wraps(original)
    def get_model_kwargs(self: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        wanted = original(self, *args, **kwargs)
        if wanted.get("stream") is True:
            with contained("asking a stream for its usage"):
                options = wanted.get("stream_options") or {}
                if "include_usage" not in options and servers.may_be_asked(self):
                    wanted["stream_options"] = {**options, "include_usage": True}
        return wanted

    return get_model_kwargs


def _retreating(
    original: Callable[..., Iterator[Any]], servers: _Servers
) -> Callable[..., Iterator[Any]]:
    @functools.wraps(original)
    def stream(self: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        is_unknown = servers.is_unknown(self)
        chunks = original(self, *args, **kwargs)
        if not is_unknown:
            return chunks
        return _first_contact(servers, self, chunks, lambda: original(self, *args, **kwargs))

    return stream


def _first_contact(
    servers: _Servers, model: Any, chunks: Iterator[Any], again: Callable[[], Iterator[Any]]
) -> Iterator[Any]:
    try:
        first = next(chunks)
    except StopIteration:
        return
    except Exception as error:
        if not servers.has_refused(model, error):
            raise
        chunks = again()
    else:
        servers.accepting.add(model.api_base)
        yield first
    yield from chunks


def _retreating_async(original: Callable[..., Any], servers: _Servers) -> Callable[..., Any]:
    @functools.wraps(original)
    async def astream(self: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        is_unknown = servers.is_unknown(self)
        chunks: AsyncIterator[Any] = await original(self, *args, **kwargs)
        if not is_unknown:
            return chunks
        return _first_contact_async(servers, self, chunks, lambda: original(self, *args, **kwargs))

    return astream


async def _first_contact_async(
    servers: _Servers,
    model: Any,
    chunks: AsyncIterator[Any],
    again: Callable[[], Awaitable[AsyncIterator[Any]]],
) -> AsyncIterator[Any]:
    try:
        first = await anext(chunks)
    except StopAsyncIteration:
        return
    except Exception as error:
        if not servers.has_refused(model, error):
            raise
        chunks = await again()
    else:
        servers.accepting.add(model.api_base)
        yield first
    async for chunk in chunks:
        yield chunk
