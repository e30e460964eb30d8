"""The handler for LiteLLM: its callbacks become calls on the meter."""

from __future__ import annotations

from .handler import LiteLLMHandler

__all__ = ["LiteLLMHandler"]
