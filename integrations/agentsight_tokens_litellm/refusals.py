"""
Calls that a budget does not allow: the request is not sent, and the program is told why.

LiteLLM swallows what a callback raises, turns what is raised beside it into errors of its own,
and tries again or elsewhere (litellm 1.106). So a refusal is noted in the callback, raised
where LiteLLM is about to send the request, and put in the place of whatever LiteLLM made of it.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, Final
from weakref import WeakSet

from agentsight_tokens.errors import BudgetExceededError
from agentsight_tokens.faults import guarded

from .failures import causes_of
from .patches import Patches

__all__ = ["Refusals"]

_NOTE: Final = "agentsight_refusal"
"""Holds in LiteLLM's details of a call why it was refused."""


class Refusals:
    """The refusals that have not reached the program yet."""

    def __init__(self) -> None:
        self._under_way: WeakSet[BudgetExceededError] = WeakSet()

    def note(self, details: dict[str, Any], refusal: BudgetExceededError) -> None:
        """Remember that a request must not be sent."""
        details[_NOTE] = refusal
        self._under_way.add(refusal)

    @guarded
    def begin_anew(self) -> None:
        """
        Forget the refusals that the program, or LiteLLM, is dealing with now.

        They are the context of whatever fails from here on, and not its cause.
        """
        for each in causes_of(sys.exc_info()[1]) if self._under_way else ():
            if isinstance(each, BudgetExceededError):
                self._under_way.discard(each)

    def watch_requests(self, logging: Any, patches: Patches) -> None:
        """Stop what is refused, and tell the program of it."""

        def stopping(original: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(original)
            def pre_call(logged: Any, *args: Any, **kwargs: Any) -> Any:
                details = logged.model_call_details
                details.pop(_NOTE, None)
                found = original(logged, *args, **kwargs)
                if _NOTE in details:
                    raise details[_NOTE]
                return found

            return pre_call

        def telling(original: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(original)
            def failure_handler(logged: Any, exception: Any, *args: Any, **kwargs: Any) -> Any:
                refusal = self._behind(logged, exception)
                if refusal is not None:
                    raise refusal from None
                return original(logged, exception, *args, **kwargs)

            return failure_handler

        patches.replace(logging.Logging, "pre_call", stopping)
        patches.replace(logging.Logging, "failure_handler", telling)

    def watch_router(self, router: Any, patches: Patches) -> None:
        """Let the router neither repeat what is refused nor ask another deployment."""

        def watched(original: Callable[[Any], bool]) -> Callable[[Any], bool]:
            @functools.wraps(original)
            def is_final(error: Any) -> bool:
                return isinstance(error, BudgetExceededError) or original(error)

            return is_final

        patches.replace(router, "is_guardrail_intervention", watched)

    @guarded
    def _behind(self, logged: Any, error: Any) -> BudgetExceededError | None:
        """Return the refusal that LiteLLM made an error of its own of."""
        # Of fallbacks that have all failed LiteLLM tells but the text of the last error.
        noted: BudgetExceededError | None = logged.model_call_details.get(_NOTE)
        if noted is not None:
            return noted
        for each in causes_of(error) if self._under_way else ():
            if isinstance(each, BudgetExceededError) and each in self._under_way:
                return each
        return None
