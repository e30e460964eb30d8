"""The taps that a framework's handler has beneath it, whatever SDKs the program uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from agentsight_tokens.config import TokenConfig
from agentsight_tokens.meter import Meter

from .tap import Install, Surroundings

if TYPE_CHECKING:
    from .tap import Tap

__all__ = ["ENTRY_POINT_GROUP", "install_taps"]

ENTRY_POINT_GROUP: Final = "agentsight_tokens.taps"
"""The entry-point group in which a package registers its tap on an SDK."""


def install_taps(
    meter: Meter, config: TokenConfig, *, surroundings: Surroundings | None = None
) -> Callable[[], None]:
    """
    Count what the SDKs beneath a framework send for its calls, and return what undoes it.

    Embeddings are counted wherever they are asked for, because frameworks tell nothing of
    most of them. Every SDK is left alone until the program imports it.

    Args:
        meter: The meter that the calls begin at.
        config: Whether to watch the SDKs at all, and whether to count embeddings.
        surroundings: Tells what the framework knows of a call, such as its tool.
    """
    if not (config.wire_taps or config.capture_embeddings):
        return _nothing
    # Imported here: a handler that uses no taps needs it not.
    from importlib.metadata import entry_points

    wanted = Install(
        meter=meter,
        calls="inside" if config.wire_taps else "none",
        embeddings="all" if config.capture_embeddings else "none",
        surroundings=surroundings,
    )
    taps: list[Tap] = [point.load() for point in entry_points(group=ENTRY_POINT_GROUP)]
    for tap in taps:
        tap.install(wanted)

    def undo() -> None:
        for tap in taps:
            tap.uninstall(wanted)

    return undo


def _nothing() -> None:
    """Undo nothing."""
