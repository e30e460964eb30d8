"""What OpenAI's SDK sends, and what of it counts."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from agentsight_tokens_wire.exchange import Exchange
from agentsight_tokens_wire.patches import Patches
from agentsight_tokens_wire.stainless import Sent, patch_requests
from agentsight_tokens_wire.tap import Tap

from .endpoints import endpoint_of, provider_of

__all__ = ["patch"]


def patch(module: ModuleType, tap: Tap, patches: Patches) -> None:
    """Patch the module of the base classes of the SDK's clients."""

    def begin(client: Any, options: Any) -> Sent | None:
        endpoint = endpoint_of(options.method, options.url)
        if endpoint is None:
            return None
        body = options.json_data
        model = body.get("model") if isinstance(body, dict) else None
        call = tap.begin(
            endpoint.operation,
            model=model if isinstance(model, str) else None,
            provider=provider_of(client),
        )
        return None if call is None else Sent(client, Exchange(call, endpoint))

    patch_requests(module, begin, patches)
