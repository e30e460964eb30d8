"""Handlers: what one is, which are registered, and how they are switched on."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterable, Mapping
from threading import RLock
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

from .config import TokenConfig
from .errors import HandlerSkippedWarning, UnknownHandlerError
from .meter import Meter, meter

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = [
    "ENTRY_POINT_GROUP",
    "Handler",
    "activate",
    "deactivate",
    "is_installed",
    "registered_handlers",
]

ENTRY_POINT_GROUP: Final = "agentsight_tokens.handlers"
"""The entry-point group in which a package registers its handler class."""


class Handler(Protocol):
    """
    Turns one framework's events into calls on the meter.

    The class is registered as an entry point and constructed without arguments. Its module
    must import where the framework is absent; the framework's modules belong into
    `install`, or behind a post-import hook where importing them is slow.
    """

    name: ClassVar[str]
    """The name by which `AGENTSIGHT_TOKEN_HANDLER_TYPE` selects the handler."""
    framework: ClassVar[str]
    """The framework's module; where it is absent, the handler is skipped."""
    extra: ClassVar[str]
    """What installs the framework: `pip install '<extra>'`."""

    def install(self, meter: Meter, config: TokenConfig) -> None:
        """Register with the framework; done once for each process."""

    def uninstall(self) -> None:
        """Undo `install` as far as the framework allows; nothing is counted any more."""


_lock: Final = RLock()
_installed: Final[dict[str, Handler]] = {}


def registered_handlers() -> dict[str, EntryPoint]:
    """Return the entry points of all installed handlers by name."""
    # Imported here: a tracker without handlers needs it not.
    from importlib.metadata import entry_points

    points = entry_points(group=ENTRY_POINT_GROUP)
    return {point.name: point for point in sorted(points, key=lambda point: point.name)}


def activate(names: Iterable[str], config: TokenConfig) -> Mapping[str, str]:
    """
    Switch handlers on and return the status of each: `active` or `skipped: <why>`.

    Args:
        names: Names of handlers; `auto` stands for every one whose framework is installed.
        config: The configuration that the handlers are installed with.

    Raises:
        UnknownHandlerError: For a name that no installed package registers.
    """
    wanted = tuple(dict.fromkeys(names))
    if not wanted:
        return {}
    known = registered_handlers()
    for name in wanted:
        if name != "auto" and name not in known:
            raise UnknownHandlerError(
                f"unknown token handler {name!r} in AGENTSIGHT_TOKEN_HANDLER_TYPE; "
                f"known are {', '.join(known)} and auto"
            )
    status: dict[str, str] = {}
    for name in known if "auto" in wanted else wanted:
        status[name] = _activate_one(known[name], config, is_asked_for=name in wanted)
    return status


def deactivate() -> None:
    """Switch every handler off."""
    with _lock:
        for handler in _installed.values():
            handler.uninstall()
        _installed.clear()


def _activate_one(point: EntryPoint, config: TokenConfig, *, is_asked_for: bool) -> str:
    with _lock:
        if point.name in _installed:
            return "active"
        handler_class: type[Handler] = point.load()
        if not is_installed(handler_class.framework):
            reason = (
                f"no module named {handler_class.framework!r}; "
                f"install it with: pip install {handler_class.extra!r}"
            )
            if is_asked_for:
                warnings.warn(
                    f"handler {point.name!r} skipped: {reason}",
                    HandlerSkippedWarning,
                    stacklevel=4,
                )
            return f"skipped: {reason}"
        handler = handler_class()
        handler.install(meter, config)
        _installed[point.name] = handler
        return "active"


def is_installed(module: str) -> bool:
    """Return whether a module could be imported, without importing it (but its package)."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package that it is in is absent, too
        return False
