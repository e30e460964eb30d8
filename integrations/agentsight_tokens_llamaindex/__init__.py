"""The handler for LlamaIndex: its instrumentation events become calls on the meter."""

from __future__ import annotations

from .handler import LlamaIndexHandler

__all__ = ["LlamaIndexHandler"]
