"""Tap: the one place where an SDK is watched, whoever asks for it."""

from __future__ import annotations

import atexit
from collections.abc import Callable
from dataclasses import dataclass
from threading import RLock
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar
from weakref import WeakSet

import wrapt

from agentsight_tokens.faults import contained
from agentsight_tokens.meter import Asked, Meter, OpenCall
from agentsight_tokens.usage import Operation

from .patches import Patches

if TYPE_CHECKING:
    from .exchange import Endpoint, Exchange

__all__ = ["Install", "Surroundings", "Tap", "Which"]

Surroundings = Callable[[], dict[str, Any]]
"""Returns what a framework knows of the call that starts now, as arguments of `Meter.begin`."""

Which = Literal["none", "inside", "all"]
"""Which calls count: none, those that a framework's call surrounds, or all."""

_Exchange = TypeVar("_Exchange", bound="Exchange")
_ORDER: Final[tuple[Which, ...]] = ("none", "inside", "all")


@dataclass(frozen=True, eq=False, kw_only=True)
class Install:
    """What one handler wants of a tap."""

    meter: Meter
    calls: Which = "inside"
    """Which calls count that are no embeddings."""
    embeddings: Which = "inside"
    """Which embeddings count."""
    asks_for_usage: bool = False
    """Whether streams are asked for their usage that no framework's call surrounds."""
    surroundings: Surroundings | None = None
    """Tells what a framework knows of a call that starts now, such as its tool."""


class Tap:
    """
    The watch on one SDK, of which there is one for each process.

    What counts is what any of its installs wants. The SDK is patched when the program imports
    it, or at once if it already did, and restored with the last uninstall.

    Args:
        handler: The name under which calls are counted.
        patch: Patches the module, with the tap itself and the patches to add to.
        module: The module that holds what is patched.
    """

    def __init__(
        self, handler: str, patch: Callable[[ModuleType, Tap, Patches], None], module: str
    ) -> None:
        self.handler = handler
        self.asks_for_usage = False
        self.patches: Patches | None = None
        """What is patched now."""
        self._patch = patch
        self._module = module
        self._lock = RLock()
        self._installs: list[Install] = []
        self._is_awaiting_import = False
        atexit.register(self._give_up)
        self._meter: Meter | None = None
        self._calls: Which = "none"
        self._embeddings: Which = "none"
        self._surroundings: tuple[Surroundings, ...] = ()
        self._streams: WeakSet[Exchange] = WeakSet()

    def install(self, install: Install) -> None:
        """Count what is wanted; each install needs its own uninstall."""
        with self._lock:
            self._installs.append(install)
            self._add_up()
            install.meter.barriers.append(self.settle)
            if self.patches is not None or self._is_awaiting_import:
                return
            self._is_awaiting_import = True
        # Outside the lock: an import may be under way in another thread.
        wrapt.register_post_import_hook(self._imported, self._module)

    def uninstall(self, install: Install) -> None:
        """Take one install back."""
        with self._lock:
            if install not in self._installs:
                return
            self._installs.remove(install)
            self._add_up()
            install.meter.barriers.remove(self.settle)
            if self._installs:
                return
            patches, self.patches = self.patches, None
        self._give_up()
        if patches is not None:
            patches.undo()

    def begin(
        self,
        kind: type[_Exchange],
        endpoint: Endpoint,
        *,
        model: object,
        provider: str | None,
        asked: Callable[[], Asked] | None = None,
    ) -> _Exchange | None:
        """
        Begin the call of a request that is about to be sent; None if it does not count.

        Args:
            kind: The class of its exchange.
            endpoint: What is asked for.
            model: The model that is asked for, if it is named.
            provider: Who is asked, if that is known.
            asked: Reads what is asked for; None for what has been paid for already.

        Raises:
            BudgetExceededError: If a budget does not allow the call; nothing is sent then.
        """
        name = model if isinstance(model, str) else None
        call = self._begun(endpoint.operation, name, provider, asked)
        if call is None:
            return None
        return kind(call, endpoint, self._add_stream)

    def settle(self) -> None:
        """Finish the streams whose framework is through with them and has not closed them."""
        with self._lock:
            left = [each for each in self._streams if each.is_left]
        for exchange in left:
            exchange.cut()

    def _add_stream(self, exchange: Exchange) -> None:
        with self._lock:
            self._streams.add(exchange)

    def _begun(
        self,
        operation: Operation,
        model: str | None,
        provider: str | None,
        asked: Callable[[], Asked] | None,
    ) -> OpenCall | None:
        meter = self._meter
        which = self._embeddings if operation == "embedding" else self._calls
        if meter is None or which == "none":
            return None
        if which == "inside" or not self._surroundings:
            return meter.begin_on_wire(
                self.handler,
                operation,
                model=model,
                provider=provider,
                only_inside=which == "inside",
                asked=asked,
            )
        known: dict[str, Any] = {}
        for surroundings in self._surroundings:
            with contained("surroundings of a call"):
                found = surroundings()
                known.update({name: value for name, value in found.items() if value is not None})
        return meter.begin(
            self.handler,
            operation,
            model=model,
            provider=provider,
            surrounds=False,
            asked=asked,
            **known,
        )

    def _give_up(self) -> None:
        """Count what the streams under way have told; nothing more of them will count."""
        with self._lock:
            streams = [each for each in self._streams if not each.call.is_finished]
        for exchange in streams:
            with contained("a stream under way"):
                exchange.cut()

    def _add_up(self) -> None:
        installs = tuple(self._installs)
        self._meter = installs[-1].meter if installs else None
        self._calls = max((each.calls for each in installs), key=_ORDER.index, default="none")
        self._embeddings = max(
            (each.embeddings for each in installs), key=_ORDER.index, default="none"
        )
        self.asks_for_usage = any(each.asks_for_usage for each in installs)
        self._surroundings = tuple(each.surroundings for each in installs if each.surroundings)

    def _imported(self, module: ModuleType) -> None:
        with contained(f"patching {self._module}"), self._lock:
            self._is_awaiting_import = False
            if self.patches is not None or not self._installs:
                return
            self.patches = Patches()
            self._patch(module, self, self.patches)
