"""
Taps on the SDKs, each for a call of which LlamaIndex's events tell nothing or too little.

`structured_predict` of OpenAI's Responses and of Anthropic calls `parse` and fires no event,
and the integration for Anthropic keeps a stream's first event to itself, which may be the
only one that tells the input and the cache.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import ModuleType
from typing import Any, Final

from agentsight_tokens.faults import guarded

from .calls import Call
from .capture import Capture
from .patches import Patches

__all__ = ["install_taps"]

_PARSES: Final = (
    ("openai.resources.responses.responses", "Responses", "AsyncResponses"),
    ("anthropic.resources.beta.messages.messages", "Messages", "AsyncMessages"),
)
_ANTHROPIC: Final = "anthropic.resources.messages.messages"


def install_taps(capture: Capture, patches: Patches) -> None:
    """Patch the SDKs when they are imported."""
    for path, owner, async_owner in _PARSES:
        patches.after_import(path, _parse_patch(capture, patches, owner, async_owner))

    def patch_streams(module: ModuleType) -> None:
        watch = _Watch(capture, patches)
        patches.replace(module.Messages, "create", watch.create)
        patches.replace(module.AsyncMessages, "create", watch.create_async)

    patches.after_import(_ANTHROPIC, patch_streams)


def _parse_patch(
    capture: Capture, patches: Patches, owner: str, async_owner: str
) -> Callable[[ModuleType], None]:
    def patch(module: ModuleType) -> None:
        for name, wrap in ((owner, _parsed), (async_owner, _parsed_async)):
            kind = getattr(module, name)
            if "parse" in vars(kind):  # older SDKs have none
                patches.replace(kind, "parse", functools.partial(wrap, capture, patches))

    return patch


def _parsed(capture: Capture, patches: Patches, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def parse(self: Any, *args: Any, **kwargs: Any) -> Any:
        span_id = capture.start_untold(kwargs) if patches.is_on else None
        if span_id is None:
            return original(self, *args, **kwargs)
        try:
            response = original(self, *args, **kwargs)
        except BaseException as error:
            capture.fail_untold(span_id, error)
            raise
        capture.end_untold(span_id, response)
        return response

    return parse


def _parsed_async(
    capture: Capture, patches: Patches, original: Callable[..., Awaitable[Any]]
) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(original)
    async def parse(self: Any, *args: Any, **kwargs: Any) -> Any:
        span_id = capture.start_untold(kwargs) if patches.is_on else None
        if span_id is None:
            return await original(self, *args, **kwargs)
        try:
            response = await original(self, *args, **kwargs)
        except BaseException as error:
            capture.fail_untold(span_id, error)
            raise
        capture.end_untold(span_id, response)
        return response

    return parse


class _Watch:
    """Shows a stream's first event to the call that asked for the stream."""

    def __init__(self, capture: Capture, patches: Patches) -> None:
        self._capture = capture
        self._patches = patches

    def create(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Return what takes the place of `Messages.create`."""

        @functools.wraps(original)
        def create(resource: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(resource, *args, **kwargs)
            if kwargs.get("stream") is True and self._patches.is_on:
                self.attach(result, _first_shown)
            return result

        return create

    def create_async(self, original: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
        """Return what takes the place of `AsyncMessages.create`."""

        @functools.wraps(original)
        async def create(resource: Any, *args: Any, **kwargs: Any) -> Any:
            result = await original(resource, *args, **kwargs)
            if kwargs.get("stream") is True and self._patches.is_on:
                self.attach(result, _first_shown_async)
            return result

        return create

    @guarded
    def attach(self, stream: Any, show: Callable[[Any, Call], Any]) -> None:
        """Let the call that is under way see the stream."""
        call = self._capture.calls.nearest(self._capture.active_span())
        if call is not None:
            call.is_sent = True
            # The SDK has no other place: the integration iterates over the stream itself.
            stream._iterator = show(stream._iterator, call)  # noqa: SLF001


def _first_shown(events: Iterator[Any], call: Call) -> Iterator[Any]:
    for event in events:
        call.first = event
        yield event
        break
    yield from events


async def _first_shown_async(events: AsyncIterator[Any], call: Call) -> AsyncIterator[Any]:
    is_first = True
    try:
        async for event in events:
            if is_first:
                is_first, call.first = False, event
            yield event
    finally:
        close = getattr(events, "aclose", None)
        if close is not None:
            await close()
