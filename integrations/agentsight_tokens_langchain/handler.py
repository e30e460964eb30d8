"""LangChainHandler: switches the counting on once the program imports the framework."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, ClassVar, Final

import wrapt

from agentsight_tokens.config import TokenConfig
from agentsight_tokens.faults import guarded
from agentsight_tokens.meter import Meter
from agentsight_tokens_wire import install_taps

__all__ = ["LangChainHandler"]

_REGISTRATION: Final = f"{__package__}.registration"
_MODELS: Final = (
    ("langchain_core.language_models.chat_models", "BaseChatModel"),
    ("langchain_core.language_models.llms", "BaseLLM"),
)


class LangChainHandler:
    """
    Registers with LangChain when the program imports it.

    Nothing here imports the framework: what must is loaded by post-import hooks, so that
    the handler costs a program nothing that never uses it.
    """

    name: ClassVar[str] = "langchain"
    framework: ClassVar[str] = "langchain_core"
    extra: ClassVar[str] = "agentsight-tokens[langchain]"

    def __init__(self) -> None:
        self._meter: Meter | None = None
        self._undo: list[Callable[[], None]] = []

    def install(self, meter: Meter, config: TokenConfig) -> None:
        """Register with the framework; done once for each process."""
        self._meter = meter
        _after_import("langchain_core.tracers.context", self._register)
        _after_import("langchain_core.callbacks.manager", self._tell_apart)
        for module, model in _MODELS:
            _after_import(module, functools.partial(self._watch_generation, model))
        if config.stream_usage:
            _after_import("langchain_openai.chat_models.base", self._ask_for_stream_usage)
            if config.wire_taps:
                _after_import("langchain_openai.llms.base", self._ask_for_legacy_usage)
        self._undo.append(install_taps(meter, config, surroundings=_surroundings))

    def uninstall(self) -> None:
        """Undo `install`; nothing is counted any more."""
        self._meter = None
        while self._undo:
            self._undo.pop()()

    @guarded
    def _register(self, module: Any) -> None:
        if self._meter is None:
            return
        from .registration import switch_off, switch_on

        meter = self._meter
        switch_on(meter, module)
        self._undo.append(lambda: switch_off(meter, module))

    @guarded
    def _tell_apart(self, module: Any) -> None:
        if self._meter is None:
            return
        from .legacy import tell_apart

        self._undo.append(tell_apart(module.AsyncCallbackManager))

    @guarded
    def _watch_generation(self, model: str, module: Any) -> None:
        if self._meter is None:
            return
        from .callbacks import usage_callback
        from .generation import watch_generation

        self._undo.append(watch_generation(getattr(module, model), usage_callback.on_llm_end))

    @guarded
    def _ask_for_stream_usage(self, module: Any) -> None:
        if self._meter is None:
            return
        from .stream_usage import ask_for_stream_usage

        self._undo.append(ask_for_stream_usage(module.BaseChatOpenAI))

    @guarded
    def _ask_for_legacy_usage(self, module: Any) -> None:
        if self._meter is None:
            return
        from .stream_usage import ask_for_legacy_usage

        self._undo.append(ask_for_legacy_usage(module.BaseOpenAI))


def _after_import(name: str, hook: Callable[[ModuleType], None]) -> None:
    wrapt.register_post_import_hook(hook, name)


def _surroundings() -> dict[str, Any]:
    """Return what LangChain knows of the code that runs now."""
    registration = sys.modules.get(_REGISTRATION)
    return registration.surroundings() if registration is not None else {}
