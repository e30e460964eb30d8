"""A display for Jupyter that follows what a tracker counts."""

from __future__ import annotations

import threading
from typing import Any

from .steps import Step, StepState
from .summary import UsageSummary
from .tracker import ConversationTracker

__all__ = ["LiveUsage", "live_usage"]


class LiveUsage:
    """What a tracker has counted since this was shown, model by model."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._usage = UsageSummary()
        self._handle: Any = None

    @property
    def usage(self) -> UsageSummary:
        """The sum so far."""
        return self._usage

    def show(self, display: Any) -> None:
        """Show it below the cell that runs, and write it anew with every call."""
        self._handle = display(self, display_id=True)

    def add(self, state: StepState, step: Step) -> None:
        """Add a call; this is the hook that the tracker tells of it."""
        # Calls end in any thread; a display that is written twice at once shows the older sum.
        with self._lock:
            of_call = UsageSummary.of_calls([step.record])
            self._usage = UsageSummary.merged([self._usage, of_call])
            if self._handle is not None:
                self._handle.update(self)

    def _repr_html_(self) -> str:
        return self._usage._repr_html_()  # the protocol of notebooks


def live_usage(tracker: ConversationTracker) -> LiveUsage:
    """
    Show what a tracker counts from now on, in the cell that runs this.

    Raises:
        ImportError: Without IPython, which every Jupyter has.
    """
    try:
        from IPython.display import display
    except ImportError as error:
        raise ImportError("live_usage() needs IPython: pip install jupyterlab") from error
    live = LiveUsage()
    live.show(display)
    tracker.on_step_complete(live.add)
    return live
