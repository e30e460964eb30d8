"""The handler of Google's Gen AI SDK, and the tap on it that frameworks' handlers use."""

from __future__ import annotations

from .handler import GoogleHandler

__all__ = ["GoogleHandler"]
