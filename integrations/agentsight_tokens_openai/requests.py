"""What OpenAI's SDK sends, and what of it counts."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from agentsight_tokens.meter import Asked
from agentsight_tokens_wire.asked import asked_of
from agentsight_tokens_wire.exchange import Exchange
from agentsight_tokens_wire.patches import Patches
from agentsight_tokens_wire.stainless import Sent, patch_requests
from agentsight_tokens_wire.tap import Tap

from .background import BackgroundExchange, give_up, resumed
from .endpoints import RESPONSES, endpoint_of, provider_of, response_id_of
from .stream_usage import SentStream, may_ask

__all__ = ["patch"]


def patch(module: ModuleType, tap: Tap, patches: Patches) -> None:
    """Patch the module of the base classes of the SDK's clients."""

    def begin(client: Any, options: Any) -> Sent | None:
        endpoint = endpoint_of(options.method, options.url)
        if endpoint is None:
            response_id = response_id_of(options.method, options.url)
            exchange = resumed(response_id) if response_id is not None else None
            return Sent(client, exchange) if exchange is not None else None
        body = options.json_data if isinstance(options.json_data, dict) else {}
        is_kept = endpoint is RESPONSES and body.get("background") is True
        exchange = tap.begin(
            BackgroundExchange if is_kept else Exchange,
            endpoint,
            model=body.get("model"),
            provider=provider_of(client),
            asked=lambda: _asked(body),
        )
        if exchange is None:
            return None
        outer = exchange.call.outer
        is_frameworks = outer is not None and not outer.is_programs_own
        if tap.asks_for_usage and not is_frameworks and may_ask(client, options):
            return SentStream(client, exchange)
        return Sent(client, exchange)

    patch_requests(module, begin, patches)
    patches.on_undo(give_up)


def _asked(body: dict[str, Any]) -> Asked:
    prompt = body.get("messages") or body.get("prompt") or body.get("input")
    instructions = body.get("instructions")
    if instructions:
        items = [prompt] if isinstance(prompt, str) else [*(prompt or ())]
        texts = [{"role": "user", "content": i} if isinstance(i, str) else i for i in items]
        prompt = [{"role": "system", "content": instructions}, *texts]
    return asked_of(prompt, body)
