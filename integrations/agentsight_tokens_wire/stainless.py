"""
Requests of the SDKs that Stainless generates, such as OpenAI's and Anthropic's.

Every request goes through `request` of one base class, which retries, and every answer
through its `_process_response`. Both are looked up on the class with each call, so clients
that were built before, bound methods of resources, raw-response wrappers, helpers for streams
and a user's own subclasses all lead there; what the resources' methods are is no matter.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from types import ModuleType
from typing import Any, ClassVar, Final

from agentsight_tokens.faults import guarded

from .exchange import Exchange
from .patches import Patches
from .streams import read_again, watch

__all__ = ["Begin", "Sent", "options_of", "patch_requests"]


class Sent:
    """One request of a client, from its beginning to the answer's first byte."""

    alters: ClassVar[bool] = False
    """Whether `changed`, `retreats` and `prepare` do anything, so that they are to be asked."""

    def __init__(self, client: Any, exchange: Exchange) -> None:
        self.client = client
        self.exchange = exchange
        self.response: Any = None
        """The HTTP response, once it is there."""
        self.is_watched = False
        """Whether the body was still to be read, and is read along."""

    def changed(self, options: Any) -> Any:
        """Return the options to send instead of the program's, or None for those."""

    def retreats(self, error: Exception) -> bool:
        """Tell whether to send again what the program itself wanted to send."""
        return False

    def prepare(self, result: Any) -> None:
        """Prepare a result for the program."""

    @guarded
    def attach(self, response: Any) -> None:
        """Take the HTTP response."""
        if self.response is not None or response is None:
            return
        self.response = response
        if not response.is_closed:
            watch(response, self.exchange)
            self.is_watched = True

    @guarded
    def succeed(self) -> None:
        """Finish the call of a request that returned, unless its body is still to come."""
        if self.is_watched:
            return
        if self.response is None:  # a subclass answered without sending anything
            self.exchange.unsent()
            return
        read_again(self.response, self.exchange)

    @guarded
    def fail(self, error: BaseException) -> None:
        """Finish the call of a request that raised."""
        if self.is_watched:
            self.exchange.cut(error)
        else:
            body = self.response.content if self.response is not None else None
            self.exchange.fail(error, body)


Begin = Callable[[Any, Any], "Sent | None"]
"""Begins the call of a client's request, given its options; None for one that does not count."""


_sending: Final[ContextVar[Sent | None]] = ContextVar("agentsight_sending", default=None)


def options_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the options among the arguments of `request(cast_to, options, ...)`."""
    return kwargs["options"] if "options" in kwargs else args[1]


def patch_requests(module: ModuleType, begin: Begin, patches: Patches) -> None:
    """
    Patch the module of the base classes of an SDK's clients.

    Where a class below has a `request` of its own, it is patched as well: another instrument
    may have put it there, and kept the base class's as it was before.
    """
    for name, wrap, wrap_process in (
        ("SyncAPIClient", _counted, _noting),
        ("AsyncAPIClient", _counted_async, _noting_async),
    ):
        base = getattr(module, name)
        patches.replace(base, "_process_response", wrap_process)
        for kind in (base, *_below(base)):
            if "request" in vars(kind):
                patches.replace(kind, "request", functools.partial(wrap, begin, patches))


def _below(kind: type[Any]) -> Iterator[type[Any]]:
    for each in kind.__subclasses__():
        yield each
        yield from _below(each)


def _counted(begin: Begin, patches: Patches, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def request(self: Any, *args: Any, **kwargs: Any) -> Any:
        sent = _begun(begin, patches, self, args, kwargs)
        if sent is None:
            return original(self, *args, **kwargs)
        token = _sending.set(sent)
        try:
            changed = _changed(sent, args, kwargs) if sent.alters else None
            if changed is None:
                result = original(self, *args, **kwargs)
            else:
                try:
                    result = original(self, *changed[0], **changed[1])
                except Exception as error:
                    if _retreats(sent, error) is False:  # None: a fault of ours
                        raise
                    result = original(self, *args, **kwargs)
        except BaseException as error:
            sent.fail(error)
            raise
        finally:
            _sending.reset(token)
        sent.succeed()
        if sent.alters:
            _prepare(sent, result)
        return result

    return request


def _counted_async(
    begin: Begin, patches: Patches, original: Callable[..., Awaitable[Any]]
) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(original)
    async def request(self: Any, *args: Any, **kwargs: Any) -> Any:
        sent = _begun(begin, patches, self, args, kwargs)
        if sent is None:
            return await original(self, *args, **kwargs)
        token = _sending.set(sent)
        try:
            changed = _changed(sent, args, kwargs) if sent.alters else None
            if changed is None:
                result = await original(self, *args, **kwargs)
            else:
                try:
                    result = await original(self, *changed[0], **changed[1])
                except Exception as error:
                    if _retreats(sent, error) is False:  # None: a fault of ours
                        raise
                    result = await original(self, *args, **kwargs)
        except BaseException as error:
            sent.fail(error)
            raise
        finally:
            with suppress(ValueError):  # the collector ended it in another context
                _sending.reset(token)
        sent.succeed()
        if sent.alters:
            _prepare(sent, result)
        return result

    return request


def _noting(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def process_response(self: Any, *args: Any, **kwargs: Any) -> Any:
        sent = _sending.get()
        if sent is not None:
            sent.attach(kwargs.get("response"))
        return original(self, *args, **kwargs)

    return process_response


def _noting_async(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(original)
    async def process_response(self: Any, *args: Any, **kwargs: Any) -> Any:
        sent = _sending.get()
        if sent is not None:
            sent.attach(kwargs.get("response"))
        return await original(self, *args, **kwargs)

    return process_response


@guarded
def _begun(
    begin: Begin, patches: Patches, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Sent | None:
    if not patches.is_on:
        return None
    around = _sending.get()
    if around is not None and around.client is client and around.response is None:
        return None  # the same request, in the method of a base class
    return begin(client, options_of(args, kwargs))


@guarded
def _changed(
    sent: Sent, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    options = sent.changed(options_of(args, kwargs))
    if options is None:
        return None
    if "options" in kwargs:
        return args, {**kwargs, "options": options}
    return (args[0], options, *args[2:]), kwargs


@guarded
def _retreats(sent: Sent, error: Exception) -> bool:
    return sent.retreats(error)


@guarded
def _prepare(sent: Sent, result: Any) -> None:
    sent.prepare(result)
