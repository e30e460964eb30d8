"""OpenAIHandler: counts the calls of OpenAI's SDK."""

from __future__ import annotations

from typing import ClassVar

from agentsight_tokens.config import TokenConfig
from agentsight_tokens.meter import Meter
from agentsight_tokens_wire.tap import Install

from .tap import tap

__all__ = ["OpenAIHandler"]


class OpenAIHandler:
    """
    Counts every call of OpenAI's SDK, for programs that use it without a framework.

    Clients of Azure and of other providers that speak OpenAI's format are counted too.
    """

    name: ClassVar[str] = "openai"
    framework: ClassVar[str] = "openai"
    extra: ClassVar[str] = "agentsight-tokens[openai]"

    def __init__(self) -> None:
        self._install: Install | None = None

    def install(self, meter: Meter, config: TokenConfig) -> None:
        """Count from now on, or from the SDK's import on."""
        if self._install is not None:
            return
        self._install = Install(
            meter=meter,
            calls="all",
            embeddings="all" if config.capture_embeddings else "inside",
            asks_for_usage=config.stream_usage,
        )
        tap.install(self._install)

    def uninstall(self) -> None:
        """Stop counting."""
        if self._install is not None:
            tap.uninstall(self._install)
            self._install = None
