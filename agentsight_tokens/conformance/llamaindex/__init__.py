"""The scenarios of LlamaIndex."""

from __future__ import annotations

from .scenarios import SCENARIOS

__all__ = ["SCENARIOS"]
