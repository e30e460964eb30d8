"""LangChainHandler: switches the counting on once the program imports the framework."""

from __future__ import annotations

import functools
import sys
from types import ModuleType
from typing import Any, ClassVar, Final

from agentsight_tokens.config import TokenConfig
from agentsight_tokens.meter import Meter
from agentsight_tokens_wire import install_taps
from agentsight_tokens_wire.patches import Patches

__all__ = ["LangChainHandler"]

_REGISTRATION: Final = f"{__package__}.registration"
_MODELS: Final = (
    ("langchain_core.language_models.chat_models", "BaseChatModel"),
    ("langchain_core.language_models.llms", "BaseLLM"),
)


class LangChainHandler:
    """
    Listens to LangChain's runs when the program imports it.

    Nothing here imports the framework: what needs it is loaded by post-import hooks, so that
    the handler costs a program nothing that never uses it.
    """

    name: ClassVar[str] = "langchain"
    framework: ClassVar[str] = "langchain_core"
    extra: ClassVar[str] = "agentsight-tokens[langchain]"

    def __init__(self) -> None:
        self._patches: Patches | None = None

    def install(self, meter: Meter, config: TokenConfig) -> None:
        """Listen from now on, or from LangChain's import on; done once for each process."""
        patches = self._patches = Patches()

        def listen(module: ModuleType) -> None:
            from .registration import listen

            listen(meter, module, patches)

        def watch(model: str, module: ModuleType) -> None:
            from .asking import watch_asking
            from .run_events import run_events

            watch_asking(getattr(module, model), run_events, patches)

        def ask_chats(module: Any) -> None:
            from .stream_usage import ask_for_stream_usage

            ask_for_stream_usage(module.BaseChatOpenAI, patches)

        def ask_legacy(module: Any) -> None:
            from .stream_usage import ask_for_legacy_usage

            ask_for_legacy_usage(module.BaseOpenAI, patches)

        patches.after_import("langchain_core.callbacks.manager", listen)
        for module, model in _MODELS:
            patches.after_import(module, functools.partial(watch, model))
        if config.stream_usage:
            patches.after_import("langchain_openai.chat_models.base", ask_chats)
            if config.wire_taps:
                patches.after_import("langchain_openai.llms.base", ask_legacy)
        patches.on_undo(install_taps(meter, config, surroundings=_surroundings))

    def uninstall(self) -> None:
        """Undo `install`; nothing is counted any more."""
        patches, self._patches = self._patches, None
        if patches is not None:
            patches.undo()


def _surroundings() -> dict[str, Any]:
    """Return what LangChain knows of the code that runs now."""
    registration = sys.modules.get(_REGISTRATION)
    return registration.surroundings() if registration is not None else {}
