"""The cost map of an installed LiteLLM, read without importing it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import msgspec

from .litellm_overlay import LiteLLMOverlay
from .rows import Header, Source

__all__ = ["MAP_FILE", "installed_map"]

MAP_FILE: Final = "model_prices_and_context_window_backup.json"
_PREFIX: Final = "litellm-"


def installed_map(*, newer_than: Header) -> LiteLLMOverlay | None:
    """
    Return the map of an installed LiteLLM that is newer than a snapshot's.

    Its own day is not known; its prices hold from the day after the snapshot's.
    """
    try:
        installed = importlib.metadata.version("litellm")
        spec = importlib.util.find_spec("litellm")
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return None
    known = max(_numbers(s.name) for s in newer_than.sources if s.name.startswith(_PREFIX))
    if spec is None or spec.origin is None or _numbers(installed) <= known:
        return None
    try:
        data = (Path(spec.origin).parent / MAP_FILE).read_bytes()
        day = date.fromisoformat(newer_than.version) + timedelta(days=1)
        return LiteLLMOverlay(data, Source(f"{_PREFIX}{installed}", day.isoformat()))
    except (OSError, msgspec.DecodeError):
        return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))
