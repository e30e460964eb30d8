"""The scenarios of LangChain and LangGraph."""

from __future__ import annotations

from .scenarios import SCENARIOS

__all__ = ["SCENARIOS"]
