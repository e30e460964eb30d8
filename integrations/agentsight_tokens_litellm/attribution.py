"""To whom a call's own arguments attribute it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agentsight_tokens.meter import METADATA_PREFIX
from agentsight_tokens.scope import current_attribution

__all__ = ["attribution_in"]

_USER: Final = f"{METADATA_PREFIX}user_id"


def attribution_in(details: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the scope fields that a call names, by their metadata keys.

    They are looked for in `metadata`, then in `litellm_metadata`, where the router and the
    newer endpoints keep it, and in what a proxy's caller sent. The end user that `user` names
    is the call's user where nothing else names one.

    Args:
        details: LiteLLM's `model_call_details`.
    """
    parameters = details.get("litellm_params") or {}
    found: dict[str, Any] = {}
    for holder in ("litellm_metadata", "metadata"):
        metadata = parameters.get(holder)
        if isinstance(metadata, Mapping):
            _take(metadata.get("requester_metadata"), found)
            _take(metadata, found)
    user = details.get("user")
    if user and _USER not in found and current_attribution().scope.user_id is None:
        found[_USER] = user
    return found


def _take(metadata: object, found: dict[str, Any]) -> None:
    if isinstance(metadata, Mapping):
        ours = (key for key in metadata if isinstance(key, str) and key.startswith(METADATA_PREFIX))
        found.update({key: metadata[key] for key in ours if metadata[key] is not None})
