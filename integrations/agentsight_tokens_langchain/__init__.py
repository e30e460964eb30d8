"""The handler for LangChain and LangGraph: counts every call that a callback can see."""

from __future__ import annotations

from .handler import LangChainHandler

__all__ = ["LangChainHandler"]
