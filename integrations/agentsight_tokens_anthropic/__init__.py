"""The handler of Anthropic's SDK, and the tap on it that frameworks' handlers use."""

from __future__ import annotations

from .handler import AnthropicHandler

__all__ = ["AnthropicHandler"]
