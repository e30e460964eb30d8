"""Who spans and metrics are from, as opentelemetry-sdk puts it."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version

from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

__all__ = ["resource_of", "scope"]


@cache
def resource_of(environment: str | None) -> Resource:
    """Return the resource of an environment, with OTEL_SERVICE_NAME and the like."""
    # Resource.create() starts threads, which Python refuses when a program ends; that is when
    # a short one delivers.
    sdk = Resource(
        {
            "service.name": "unknown_service",
            "telemetry.sdk.language": "python",
            "telemetry.sdk.name": "opentelemetry",
            "telemetry.sdk.version": version("opentelemetry-sdk"),
        }
    )
    own = Resource({"deployment.environment.name": environment} if environment else {})
    return sdk.merge(OTELResourceDetector().detect()).merge(own)


@cache
def scope() -> InstrumentationScope:
    """Return what says that it was counted by this package."""
    return InstrumentationScope("agentsight-tokens", version("agentsight-tokens"))
