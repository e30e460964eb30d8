"""The tap on the OpenAI SDK's embeddings alone, for which frameworks fire no event that counts."""

from __future__ import annotations

from typing import Final

from agentsight_tokens.meter import Meter
from agentsight_tokens_wire.tap import Install, Surroundings

from .tap import tap

__all__ = ["Surroundings", "install_embeddings_tap", "uninstall_embeddings_tap"]

_installs: Final[list[Install]] = []


def install_embeddings_tap(meter: Meter, *, surroundings: Surroundings | None = None) -> None:
    """
    Count the embeddings of the OpenAI SDK; each install needs its own uninstall.

    Args:
        meter: The meter that the calls begin at.
        surroundings: Tells what a framework knows of a call, such as its tool.
    """
    install = Install(meter=meter, calls="none", embeddings="all", surroundings=surroundings)
    _installs.append(install)
    tap.install(install)


def uninstall_embeddings_tap(*, surroundings: Surroundings | None = None) -> None:
    """Take one install back."""
    for install in _installs:
        if install.surroundings == surroundings:
            _installs.remove(install)
            tap.uninstall(install)
            return
