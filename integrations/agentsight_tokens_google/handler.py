"""GoogleHandler: counts the calls of Google's Gen AI SDK."""

from __future__ import annotations

from typing import ClassVar

from agentsight_tokens.config import TokenConfig
from agentsight_tokens.meter import Meter
from agentsight_tokens_wire.tap import Install

from .tap import tap

__all__ = ["GoogleHandler"]


class GoogleHandler:
    """
    Counts every call of Google's Gen AI SDK, for programs that use it without a framework.

    A stream belongs to where it is first read, because only then is its request sent.
    """

    name: ClassVar[str] = "google-genai"
    framework: ClassVar[str] = "google.genai"
    extra: ClassVar[str] = "agentsight-tokens[google-genai]"

    def __init__(self) -> None:
        self._install: Install | None = None

    def install(self, meter: Meter, config: TokenConfig) -> None:
        """Count from now on, or from the SDK's import on."""
        if self._install is None:
            embeddings = config.capture_embeddings
            self._install = Install(
                meter=meter, calls="all", embeddings="all" if embeddings else "inside"
            )
            tap.install(self._install)

    def uninstall(self) -> None:
        """Stop counting."""
        if self._install is not None:
            tap.uninstall(self._install)
            self._install = None
