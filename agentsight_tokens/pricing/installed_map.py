"""The cost map of an installed LiteLLM, read without importing it."""

from __future__ import annotations

import importlib.util
import re
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import msgspec

from .litellm_overlay import LiteLLMOverlay
from .rows import Header, Source

__all__ = ["MAP_FILE", "installed_map", "installed_map_file"]

MAP_FILE: Final = "model_prices_and_context_window_backup.json"
_PREFIX: Final = "litellm-"


def installed_map(*, newer_than: Header) -> LiteLLMOverlay | None:
    """
    Return the map of an installed LiteLLM that is newer than a snapshot's.

    Its own day is not known; its prices hold from the day after the snapshot's.
    """
    try:
        package = installed_map_file().parent
    except FileNotFoundError:
        return None
    installed = _installed_version(package)
    known = max(_numbers(s.name) for s in newer_than.sources if s.name.startswith(_PREFIX))
    if _numbers(installed) <= known:
        return None
    try:
        models = msgspec.json.decode((package / MAP_FILE).read_bytes(), type=dict[str, msgspec.Raw])
        day = date.fromisoformat(newer_than.version) + timedelta(days=1)
        return LiteLLMOverlay(models, Source(f"{_PREFIX}{installed}", day.isoformat()))
    except (OSError, msgspec.DecodeError):
        return None


def installed_map_file() -> Path:
    """
    Return where the map of an installed LiteLLM lies.

    Raises:
        FileNotFoundError: If LiteLLM is not installed.
    """
    try:
        spec = importlib.util.find_spec("litellm")
    except ValueError:  # a stand-in without a spec
        spec = None
    if spec is None or spec.origin is None:
        raise FileNotFoundError("litellm is not installed")
    return Path(spec.origin).with_name(MAP_FILE)


def _installed_version(package: Path) -> str:
    """Return the version of a package; its metadata's directory bears it."""
    # importlib.metadata would say the same, after 20 ms of imports.
    found = package.parent.glob(f"{_PREFIX}*.dist-info")
    return max((path.stem.removeprefix(_PREFIX) for path in found), key=_numbers, default="")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))
