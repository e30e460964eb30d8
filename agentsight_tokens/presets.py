"""Presets: the settings that go together for a kind of environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["PRESETS"]

_PRODUCTION: Final[Mapping[str, Any]] = {
    "daily_token_limit": 1_000_000,
    "session_token_limit": 50_000,
    "hourly_token_limit": 100_000,
    "daily_cost_limit_usd": 100.0,
    "alert_at": 0.8,
    "compress_context": True,
    "compression_threshold": 0.85,
}

PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {
    "production": {**_PRODUCTION, "on_limit": "error"},
    "migration": {**_PRODUCTION, "on_limit": "warning"},
    "staging": {
        "daily_token_limit": 500_000,
        "session_token_limit": 25_000,
        "daily_cost_limit_usd": 50.0,
        "on_limit": "error",
        "compress_context": True,
    },
    "development": {
        "daily_token_limit": 100_000,
        "session_token_limit": 10_000,
        "daily_cost_limit_usd": 10.0,
        "alert_at": 0.9,
        "on_limit": "warning",
    },
    "enterprise": {
        "daily_token_limit": 10_000_000,
        "session_token_limit": 100_000,
        "hourly_token_limit": 1_000_000,
        "daily_cost_limit_usd": 1000.0,
        "alert_at": 0.85,
        "on_limit": "error",
        "compress_context": True,
        "compression_threshold": 0.8,
    },
    "research": {
        "daily_token_limit": 5_000_000,
        "session_token_limit": 200_000,
        "daily_cost_limit_usd": 500.0,
        "on_limit": "warning",
    },
    "demo": {
        "daily_token_limit": 10_000,
        "session_token_limit": 2_000,
        "daily_cost_limit_usd": 2.0,
        "alert_at": 0.7,
        "on_limit": "error",
    },
    "minimal": {
        "daily_token_limit": 50_000,
        "session_token_limit": 5_000,
        "daily_cost_limit_usd": 5.0,
        "on_limit": "error",
    },
    "testing": {"on_limit": "off"},
}
"""Settings by the name of the environment; the name is its `environment` too."""
