"""Named queries over a store: who used what, when, and what it cost."""

from .anomalies import Anomalies, Anomaly, anomalies
from .cache import CacheReport, CacheUse, cache_use
from .calls import call_of_id, calls_page, every_call, newest_calls
from .conversations import (
    CONVERSATION_ORDERS,
    Conversation,
    ConversationOrder,
    ConversationSummary,
    CycleSummary,
    conversation,
    conversations,
)
from .dimensions import DIMENSIONS, PERIODS
from .forecast import Backtest, Forecast, Projection, forecast
from .page import LONGEST_PAGE, Page
from .periods import PeriodName
from .recommendations import Recommendation, Recommendations, recommendations
from .sample import Sample
from .speed import SpeedGroup, SpeedReport, Timing, speed
from .spending import (
    CostlyCall,
    ExpensiveOperations,
    OperationCost,
    Spender,
    TopSpenders,
    expensive_operations,
    top_spenders,
)
from .trend import Trend, TrendPoint, trend
from .usage import UsageGroup, UsageReport, usage_by, usage_over_time

__all__ = [
    "CONVERSATION_ORDERS",
    "DIMENSIONS",
    "LONGEST_PAGE",
    "PERIODS",
    "Anomalies",
    "Anomaly",
    "Backtest",
    "CacheReport",
    "CacheUse",
    "Conversation",
    "ConversationOrder",
    "ConversationSummary",
    "CostlyCall",
    "CycleSummary",
    "ExpensiveOperations",
    "Forecast",
    "OperationCost",
    "Page",
    "PeriodName",
    "Projection",
    "Recommendation",
    "Recommendations",
    "Sample",
    "SpeedGroup",
    "SpeedReport",
    "Spender",
    "Timing",
    "TopSpenders",
    "Trend",
    "TrendPoint",
    "UsageGroup",
    "UsageReport",
    "anomalies",
    "cache_use",
    "call_of_id",
    "calls_page",
    "conversation",
    "conversations",
    "every_call",
    "expensive_operations",
    "forecast",
    "newest_calls",
    "recommendations",
    "speed",
    "top_spenders",
    "trend",
    "usage_by",
    "usage_over_time",
]
