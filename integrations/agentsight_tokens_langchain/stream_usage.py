"""
Asks OpenAI's streams for their usage, which langchain-openai does only without a base URL.

It never asks the streams of legacy models, and keeps what they are told to itself, so that
asking them helps only where the SDK is watched.

A server that does not know the request's field refuses it; then the stream is asked for
again without it, and that server is not asked any more.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

from agentsight_tokens.faults import guarded
from agentsight_tokens_wire.errors import http_status
from agentsight_tokens_wire.patches import Patches

__all__ = ["ask_for_legacy_usage", "ask_for_stream_usage"]

_FIELDS: Final = ("stream_options", "include_usage")


class _Servers:
    """What is known of the servers that streams are asked of, by their address."""

    def __init__(self) -> None:
        self.is_on = True
        self.accepting: set[Any] = set()
        self.refusing: set[Any] = set()

    def leave_alone(self) -> None:
        """Ask no server any more."""
        self.is_on = False

    @guarded
    def may_ask(self, model: Any, stream_usage: object = None, **kwargs: Any) -> bool:
        """Tell whether neither the user nor the server has said no to this stream's usage."""
        if not self.is_on or _address(model) in self.refusing:
            return False
        said = (
            stream_usage,
            getattr(model, "stream_usage", None),  # legacy models have none
            (kwargs.get("stream_options") or {}).get("include_usage"),
            ((model.model_kwargs or {}).get("stream_options") or {}).get("include_usage"),
        )
        return not any(isinstance(each, bool) for each in said)

    @guarded
    def is_new(self, model: Any, kwargs: dict[str, Any]) -> bool:
        """Tell whether this stream will show if its server takes the request's field."""
        return _address(model) not in self.accepting and bool(self.may_ask(model, **kwargs))

    @guarded
    def accepted(self, model: Any) -> None:
        """Remember that the server took the request's field."""
        self.accepting.add(_address(model))

    def retreats(self, model: Any, error: Exception) -> bool:
        """Tell whether to ask again without the field, as is done where we cannot tell."""
        is_refused = self.refused(model, error)
        if is_refused is None:  # a fault of ours
            self.is_on = False
        return is_refused is not False

    @guarded
    def refused(self, model: Any, error: Exception) -> bool:
        """Tell whether the server refused the request's field, and remember it."""
        if http_status(error) not in (400, 422) or not any(f in str(error) for f in _FIELDS):
            return False
        self.refusing.add(_address(model))
        return True


def ask_for_stream_usage(model: Any, patches: Patches) -> None:
    """Ask for the usage of the streams of `BaseChatOpenAI`."""
    servers = _servers(patches)
    for name, wrap in (
        ("_should_stream_usage", _asking),
        ("_stream", _retreating),
        ("_astream", _retreating_async),
    ):
        patches.replace(model, name, functools.partial(wrap, servers))


def ask_for_legacy_usage(model: Any, patches: Patches) -> None:
    """Ask for the usage of the streams of `BaseOpenAI`."""
    servers = _servers(patches)
    for name, wrap in (("_stream", _asking_legacy), ("_astream", _asking_legacy_async)):
        patches.replace(model, name, functools.partial(wrap, servers))


def _servers(patches: Patches) -> _Servers:
    servers = _Servers()
    patches.on_undo(servers.leave_alone)
    return servers


def _asking(servers: _Servers, original: Callable[..., bool]) -> Callable[..., bool]:
    @functools.wraps(original)
    def should_stream_usage(self: Any, *args: Any, **kwargs: Any) -> bool:
        return original(self, *args, **kwargs) or bool(servers.may_ask(self, *args, **kwargs))

    return should_stream_usage


def _retreating(
    servers: _Servers, original: Callable[..., Iterator[Any]]
) -> Callable[..., Iterator[Any]]:
    @functools.wraps(original)
    def stream(self: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        ask = functools.partial(original, self, *args, **kwargs)
        if servers.is_new(self, kwargs) is False:  # None: a fault of ours
            return ask()
        return _first_contact(ask, ask, self, servers)

    return stream


def _asking_legacy(
    servers: _Servers, original: Callable[..., Iterator[Any]]
) -> Callable[..., Iterator[Any]]:
    @functools.wraps(original)
    def stream(self: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        plain = functools.partial(original, self, *args, **kwargs)
        if not servers.may_ask(self, **kwargs):
            return plain()
        ask = functools.partial(plain, stream_options=_with_usage(kwargs))
        return _first_contact(ask, plain, self, servers)

    return stream


def _with_usage(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {**(kwargs.get("stream_options") or {}), "include_usage": True}


def _first_contact(
    ask: Callable[[], Iterator[Any]],
    ask_again: Callable[[], Iterator[Any]],
    model: Any,
    servers: _Servers,
) -> Iterator[Any]:
    chunks = ask()
    try:
        first = next(chunks)
    except StopIteration:
        return
    except Exception as error:
        if not servers.retreats(model, error):
            raise
        chunks = ask_again()
    else:
        servers.accepted(model)
        yield first
    yield from chunks


def _retreating_async(
    servers: _Servers, original: Callable[..., AsyncIterator[Any]]
) -> Callable[..., AsyncIterator[Any]]:
    @functools.wraps(original)
    def astream(self: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        ask = functools.partial(original, self, *args, **kwargs)
        if servers.is_new(self, kwargs) is False:
            return ask()
        return _first_contact_async(ask, ask, self, servers)

    return astream


def _asking_legacy_async(
    servers: _Servers, original: Callable[..., AsyncIterator[Any]]
) -> Callable[..., AsyncIterator[Any]]:
    @functools.wraps(original)
    def astream(self: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        plain = functools.partial(original, self, *args, **kwargs)
        if not servers.may_ask(self, **kwargs):
            return plain()
        ask = functools.partial(plain, stream_options=_with_usage(kwargs))
        return _first_contact_async(ask, plain, self, servers)

    return astream


async def _first_contact_async(
    ask: Callable[[], AsyncIterator[Any]],
    ask_again: Callable[[], AsyncIterator[Any]],
    model: Any,
    servers: _Servers,
) -> AsyncIterator[Any]:
    chunks = ask()
    try:
        first = await anext(chunks)
    except StopAsyncIteration:
        return
    except Exception as error:
        if not servers.retreats(model, error):
            raise
        chunks = ask_again()
    else:
        servers.accepted(model)
        yield first
    async for chunk in chunks:
        yield chunk


def _address(model: Any) -> tuple[Any, Any]:
    return getattr(model, "openai_api_base", None), getattr(model, "azure_endpoint", None)
