"""What tests of an LLM application need: a provider on this machine, a clock and ids."""

from __future__ import annotations

from .billing import BilledCall
from .clock import FakeClock
from .ids import FakeIds
from .provider import LoopbackProvider
from .reply import Reply, ToolCall
from .request import LoopbackRequest

__all__ = [
    "BilledCall",
    "FakeClock",
    "FakeIds",
    "LoopbackProvider",
    "LoopbackRequest",
    "Reply",
    "ToolCall",
]
