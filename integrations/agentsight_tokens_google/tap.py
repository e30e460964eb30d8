"""The tap on Google's Gen AI SDK, which counts its requests where they are sent."""

from __future__ import annotations

from types import ModuleType
from typing import Final

from agentsight_tokens_wire.patches import Patches
from agentsight_tokens_wire.tap import Tap

__all__ = ["tap"]


def _patch(module: ModuleType, tap: Tap, patches: Patches) -> None:
    # Imported with the SDK, so that who never uses it does not pay for it.
    from .requests import patch

    patch(module, tap, patches)


tap: Final = Tap("google-genai", _patch, "google.genai._api_client")
"""The process's tap on Google's Gen AI SDK."""
