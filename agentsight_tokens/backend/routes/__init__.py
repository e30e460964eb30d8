"""What the server does, by subject; each module names its endpoints."""

from agentsight_tokens.backend.dashboard import ENDPOINTS as DASHBOARD

from .about import ENDPOINTS as ABOUT
from .budgets import ENDPOINTS as BUDGETS
from .conversations import ENDPOINTS as CONVERSATIONS
from .cycles import ENDPOINTS as CYCLES
from .export import ENDPOINTS as EXPORT
from .health import ENDPOINTS as HEALTH
from .insights import ENDPOINTS as INSIGHTS
from .keys import ENDPOINTS as KEYS
from .traces import ENDPOINTS as TRACES
from .usage import ENDPOINTS as USAGE

__all__ = ["ENDPOINTS"]

ENDPOINTS = (
    *CYCLES,
    *TRACES,
    *USAGE,
    *CONVERSATIONS,
    *INSIGHTS,
    *EXPORT,
    *KEYS,
    *BUDGETS,
    *HEALTH,
    *ABOUT,
    *DASHBOARD,
)
