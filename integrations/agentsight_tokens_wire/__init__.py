"""What the handlers of providers' SDKs share: watching a request and its answer on the wire."""

from __future__ import annotations

from .beneath import install_taps

__all__ = ["install_taps"]
