"""The dashboard: the server's data as pages."""

from .budget import ENDPOINTS as BUDGET
from .budgets import ENDPOINTS as BUDGETS
from .conversation import ENDPOINTS as CONVERSATION
from .conversations import ENDPOINTS as CONVERSATIONS
from .files import ENDPOINTS as FILES
from .insights import ENDPOINTS as INSIGHTS
from .keys import ENDPOINTS as KEYS
from .login import ENDPOINTS as LOGIN
from .model_cache import ENDPOINTS as MODEL_CACHE
from .model_speed import ENDPOINTS as MODEL_SPEED
from .models import ENDPOINTS as MODELS
from .overview import ENDPOINTS as OVERVIEW
from .page import page_of_problem
from .prices import ENDPOINTS as PRICES
from .usage import ENDPOINTS as USAGE

__all__ = ["ENDPOINTS", "page_of_problem"]

ENDPOINTS = (
    *FILES,
    *LOGIN,
    *OVERVIEW,
    *USAGE,
    *CONVERSATIONS,
    *CONVERSATION,
    *INSIGHTS,
    *MODELS,
    *MODEL_CACHE,
    *MODEL_SPEED,
    *BUDGETS,
    *BUDGET,
    *KEYS,
    *PRICES,
)
