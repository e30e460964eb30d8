"""What the handlers of providers' SDKs share: watching a request and its answer on the wire."""

from __future__ import annotations

__all__: list[str] = []
