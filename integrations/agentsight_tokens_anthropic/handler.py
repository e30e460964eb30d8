"""AnthropicHandler: counts the calls of Anthropic's SDK."""

from __future__ import annotations

from typing import ClassVar

from agentsight_tokens.config import TokenConfig
from agentsight_tokens.meter import Meter
from agentsight_tokens_wire.tap import Install

from .tap import tap

__all__ = ["AnthropicHandler"]


class AnthropicHandler:
    """
    Counts every call of Anthropic's SDK, for programs that use it without a framework.

    Clients of Bedrock, Vertex AI and Foundry are counted too, and the results of batches when
    the program reads them.
    """

    name: ClassVar[str] = "anthropic"
    framework: ClassVar[str] = "anthropic"
    extra: ClassVar[str] = "agentsight-tokens[anthropic]"

    def __init__(self) -> None:
        self._install: Install | None = None

    def install(self, meter: Meter, config: TokenConfig) -> None:
        """Count from now on, or from the SDK's import on."""
        if self._install is None:
            self._install = Install(meter=meter, calls="all")
            tap.install(self._install)

    def uninstall(self) -> None:
        """Stop counting."""
        if self._install is not None:
            tap.uninstall(self._install)
            self._install = None
