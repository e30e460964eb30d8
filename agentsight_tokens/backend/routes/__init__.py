"""What the server does, by subject; each module names its endpoints."""

from agentsight_tokens.backend.dashboard import ENDPOINTS as DASHBOARD

from .about import ENDPOINTS as ABOUT
from .budgets import ENDPOINTS as BUDGETS
from .cycles import ENDPOINTS as CYCLES
from .health import ENDPOINTS as HEALTH
from .keys import ENDPOINTS as KEYS
from .traces import ENDPOINTS as TRACES

__all__ = ["ENDPOINTS"]

ENDPOINTS = (*CYCLES, *TRACES, *KEYS, *BUDGETS, *HEALTH, *ABOUT, *DASHBOARD)
