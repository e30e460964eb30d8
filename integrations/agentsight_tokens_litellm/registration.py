"""How the logger gets among LiteLLM's callbacks, and stays there."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

from agentsight_tokens.faults import guarded

from .calls import CallTable
from .patches import Patches
from .refusals import Refusals

__all__ = ["Registration"]

_LISTS: Final = (
    "callbacks",
    "input_callback",
    "success_callback",
    "failure_callback",
    "_async_input_callback",
    "_async_success_callback",
    "_async_failure_callback",
)
"""LiteLLM's lists of callbacks; with each call it copies the first into the others."""

_UNTOLD: Final = frozenset({"replicate"})
"""LiteLLM's providers whose requests are sent without a word (litellm 1.106)."""


class Registration:
    """
    The logger's place among LiteLLM's callbacks.

    A program's own `litellm.callbacks = [...]` takes it away, so it is looked after with every
    call. The program's callbacks and their order are left alone.
    """

    def __init__(self, litellm: Any, table: CallTable, refusals: Refusals) -> None:
        self._litellm = litellm
        self._table = table
        self._refusals = refusals
        self.logger: Any = None

    @guarded
    def ensure(self) -> None:
        """Put the logger among the callbacks, if it is not there."""
        callbacks = self._litellm.callbacks
        if any(each is self.logger for each in callbacks):
            return
        self._litellm.logging_callback_manager.add_litellm_callback(self.logger)
        if not any(each is self.logger for each in callbacks):
            callbacks.append(self.logger)  # LiteLLM refuses more than 30

    def remove(self) -> None:
        """Take the logger out of every list."""
        for name in _LISTS:
            callbacks = getattr(self._litellm, name, None)
            if isinstance(callbacks, list):
                callbacks[:] = [each for each in callbacks if each is not self.logger]

    def watch_setup(self, utils: Any, patches: Patches) -> None:
        """Look after the logger where LiteLLM sets a call up."""
        patches.replace(utils, "function_setup", lambda original: self._watched(original, patches))

    def watch_failures(self, logging: Any, patches: Patches) -> None:
        """Take the failures of every attempt; LiteLLM's callbacks are told but a call's first."""

        def watched(original: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(original)
            def failure_handler(logged: Any, exception: Any, *args: Any, **kwargs: Any) -> Any:
                if patches.is_on:
                    self._failed(logged, exception)
                return original(logged, exception, *args, **kwargs)

            return failure_handler

        patches.replace(logging.Logging, "failure_handler", watched)

    @guarded
    def _failed(self, logged: Any, error: Any) -> None:
        self._table.fail_attempt(logged.model_call_details, error)

    def _watched(self, original: Callable[..., Any], patches: Patches) -> Callable[..., Any]:
        @functools.wraps(original)
        def function_setup(*args: Any, **kwargs: Any) -> Any:
            if not patches.is_on:
                return original(*args, **kwargs)
            self.ensure()
            self._refusals.begin_anew()
            found = original(*args, **kwargs)
            self._begin_untold(found)
            return found

        return function_setup

    @guarded
    def _begin_untold(self, found: Any) -> None:
        """Begin the call of a provider for which LiteLLM tells no start."""
        details = found[0].model_call_details
        provider = str(details.get("model")).partition("/")[0]
        added = self._litellm.custom_provider_map
        if provider in _UNTOLD or any(each.get("provider") == provider for each in added):
            call = self._table.begin(details)
            if call is not None:
                call.open.provider = provider
