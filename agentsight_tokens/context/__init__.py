"""The context of a model: how full its window is, and how a conversation is made to fit."""

from __future__ import annotations

from .compression import CompressionResult
from .monitor import ContextMonitor, ContextReport, auto_compress_context
from .summaries import COMPRESSION_TOOL

__all__ = [
    "COMPRESSION_TOOL",
    "CompressionResult",
    "ContextMonitor",
    "ContextReport",
    "auto_compress_context",
]
