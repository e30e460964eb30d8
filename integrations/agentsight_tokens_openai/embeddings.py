"""
The tap on the OpenAI SDK's embeddings, for which frameworks fire no event that counts.

There is one for each process, whoever asks for it. The calls are counted where they are
sent, so whatever is served from a cache above costs nothing here either.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable
from threading import RLock
from types import ModuleType
from typing import Any, Final

import wrapt

from agentsight_tokens.errors import InvalidScopeError
from agentsight_tokens.faults import contained, guarded, report_fault
from agentsight_tokens.meter import Meter, OpenCall
from agentsight_tokens.usage import TokenUsage

from .errors import is_unbilled

__all__ = ["Surroundings", "install_embeddings_tap", "uninstall_embeddings_tap"]

Surroundings = Callable[[], dict[str, Any]]
"""Returns what a framework knows of the call that starts now, as arguments of `Meter.begin`."""

_MODULE: Final = "openai.resources.embeddings"
_lock: Final = RLock()

_Patches = list[tuple[type[Any], Callable[..., Any], Callable[..., Any]]]
"""Of each patch the class, the original and the wrapper."""


class _Tap:
    """The state of the process's one tap."""

    def __init__(self) -> None:
        self.meter: Meter | None = None
        self.installs = 0
        self.surroundings: list[Surroundings] = []
        self.is_awaiting_import = False
        self.patched: _Patches = []
        """What is patched now. A wrapper of earlier patches, left below another's, is inert."""


_tap: Final = _Tap()


def install_embeddings_tap(meter: Meter, *, surroundings: Surroundings | None = None) -> None:
    """
    Count the embeddings of the OpenAI SDK; each install needs its own uninstall.

    The SDK is patched when the program imports it, or at once if it already did.

    Args:
        meter: The meter that the calls begin at.
        surroundings: Tells what a framework knows of a call, such as its tool.
    """
    with _lock:
        _tap.meter = meter
        _tap.installs += 1
        if surroundings is not None:
            _tap.surroundings.append(surroundings)
        if _tap.patched or _tap.is_awaiting_import:
            return
        _tap.is_awaiting_import = True
    # Outside the lock: an import may be under way in another thread.
    wrapt.register_post_import_hook(_patch, _MODULE)


def uninstall_embeddings_tap(*, surroundings: Surroundings | None = None) -> None:
    """Take one install back; the last one restores the SDK."""
    with _lock:
        if surroundings in _tap.surroundings:
            _tap.surroundings.remove(surroundings)
        _tap.installs = max(0, _tap.installs - 1)
        if _tap.installs:
            return
        _tap.meter = None
        patched, _tap.patched = _tap.patched, []
        for owner, original, ours in patched:
            # What others wrapped around it stays; ours only passes calls on now.
            if vars(owner).get("create") is ours:
                owner.create = original


@guarded
def _patch(module: ModuleType) -> None:
    with _lock:
        _tap.is_awaiting_import = False
        if _tap.patched or not _tap.installs:
            return
        for name, wrapper in (("Embeddings", _counted), ("AsyncEmbeddings", _counted_async)):
            owner = getattr(module, name)
            original = owner.create
            owner.create = ours = wrapper(original, _tap.patched)
            _tap.patched.append((owner, original, ours))


def _counted(original: Callable[..., Any], patches: _Patches) -> Callable[..., Any]:
    @functools.wraps(original)
    def create(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = _begin(self, kwargs, patches)
        if call is None:
            return original(self, *args, **kwargs)
        try:
            response = original(self, *args, **kwargs)
        except BaseException as error:
            _fail(call, error)
            raise
        _finish(call, response)
        return response

    return create


def _counted_async(
    original: Callable[..., Awaitable[Any]], patches: _Patches
) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(original)
    async def create(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = _begin(self, kwargs, patches)
        if call is None:
            return await original(self, *args, **kwargs)
        try:
            response = await original(self, *args, **kwargs)
        except BaseException as error:
            _fail(call, error)
            raise
        _finish(call, response)
        return response

    return create


@guarded
def _begin(resource: Any, kwargs: dict[str, Any], patches: _Patches) -> OpenCall | None:
    meter = _tap.meter
    if meter is None or patches is not _tap.patched:
        return None
    client = getattr(resource, "_client", None)
    is_azure = any(base.__name__ == "BaseAzureClient" for base in type(client).__mro__)
    known: dict[str, Any] = {}
    for surroundings in tuple(_tap.surroundings):
        with contained("surroundings of an embedding"):
            known.update(surroundings())
    model = kwargs.get("model")
    begin = functools.partial(
        meter.begin,
        "openai",
        "embedding",
        model=model if isinstance(model, str) else None,
        provider="azure" if is_azure else "openai",
    )
    try:
        return begin(**known)
    except InvalidScopeError as error:  # the call is counted, whatever its names are
        report_fault("attribution of an embedding", error)
        return begin()


@guarded
def _fail(call: OpenCall, error: BaseException) -> None:
    name = type(error).__name__
    if isinstance(error, (asyncio.CancelledError, KeyboardInterrupt, GeneratorExit)):
        call.finish(None, status="cancelled", unreported_reason="cancelled", error_type=name)
    elif is_unbilled(error):
        call.finish(TokenUsage(), status="error", error_type=name)
    else:
        call.finish(None, status="error", unreported_reason="error_without_usage", error_type=name)


@guarded
def _finish(call: OpenCall, response: Any) -> None:
    if hasattr(response, "usage"):
        _settle(call, response)
    elif hasattr(response, "http_response"):
        _finish_raw(call, response)
    else:
        call.finish(None)


def _finish_raw(call: OpenCall, response: Any) -> None:
    """Count a raw response now if its body is here, else when the caller closes it."""
    if response.http_response.is_closed and not hasattr(response, "close"):
        # The SDK keeps what it parsed, so the caller's own `parse()` costs nothing more.
        with contained("parsing an embedding's response"):
            _settle(call, response.parse())
        if not call.is_finished:
            call.finish(None)
        return
    close = response.close

    @guarded
    def settle() -> None:
        try:
            body = response.http_response.json()
        except Exception:  # noqa: BLE001  # whatever the body is, it tells no usage
            body = {}
        usage = body.get("usage") or {}
        tokens = usage.get("prompt_tokens")
        call.finish(
            None if tokens is None else TokenUsage(embedding_tokens=tokens),
            model=body.get("model"),
            unreported_reason="stream_without_usage" if tokens is None else None,
        )

    if inspect.iscoroutinefunction(close):

        async def close_async() -> None:
            settle()
            await close()

        response.close = close_async
    else:

        def close_sync() -> None:
            settle()
            close()

        response.close = close_sync


def _settle(call: OpenCall, response: Any) -> None:
    usage = response.usage
    tokens = getattr(usage, "prompt_tokens", None)
    call.finish(
        None if tokens is None else TokenUsage(embedding_tokens=tokens),
        model=response.model,
    )
