"""The handler of OpenAI's SDK, and the tap on it that frameworks' handlers use."""

from __future__ import annotations

from .handler import OpenAIHandler

__all__ = ["OpenAIHandler"]
