"""What Anthropic's SDK sends, and what of it counts."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from agentsight_tokens.meter import Asked
from agentsight_tokens_wire.asked import asked_of
from agentsight_tokens_wire.exchange import Exchange
from agentsight_tokens_wire.patches import Patches
from agentsight_tokens_wire.stainless import Sent, patch_requests
from agentsight_tokens_wire.tap import Tap

from .batches import BatchResults
from .endpoints import BATCH_RESULTS, endpoint_of, provider_of

__all__ = ["patch"]


def patch(module: ModuleType, tap: Tap, patches: Patches) -> None:
    """Patch the module of the base classes of the SDK's clients."""

    def begin(client: Any, options: Any) -> Sent | None:
        endpoint = endpoint_of(options.method, options.url)
        if endpoint is None:
            return None
        body = options.json_data if isinstance(options.json_data, dict) else {}
        exchange = tap.begin(
            BatchResults if endpoint is BATCH_RESULTS else Exchange,
            endpoint,
            model=body.get("model"),
            provider=provider_of(client),
            # The results of a batch are paid for, whatever is left.
            asked=None if endpoint is BATCH_RESULTS else lambda: _asked(body),
        )
        return Sent(client, exchange) if exchange is not None else None

    patch_requests(module, begin, patches)


def _asked(body: dict[str, Any]) -> Asked:
    system, messages = body.get("system"), body.get("messages") or ()
    if system:
        messages = [{"role": "system", "content": system}, *messages]
    return asked_of(messages, body)
