"""Middleware: any callable, counted, budgeted and kept in its context."""

from __future__ import annotations

from .caller import Enforcement
from .routing import Route, RouteRequest, cheaper_model
from .token_middleware import TokenMiddleware

__all__ = ["Enforcement", "Route", "RouteRequest", "TokenMiddleware", "cheaper_model"]
