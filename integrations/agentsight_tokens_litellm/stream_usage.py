"""
Asks OpenAI's and Azure's streams for their usage, which they tell only who asks.

The program sees the same parts as without. A server that does not know the request's
field refuses it; then the stream is asked for again without it, and that server is not asked
any more.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any, Final

from agentsight_tokens.faults import guarded

from .failures import status_of
from .patches import Patches

__all__ = ["Asked", "StreamUsage"]

_FIELDS: Final = ("stream_options", "include_usage")
_REQUESTS: Final = {
    "litellm.llms.openai.openai": (
        "OpenAIChatCompletion",
        "make_sync_openai_chat_completion_request",
        "make_openai_chat_completion_request",
    ),
    "litellm.llms.azure.azure": (
        "AzureChatCompletion",
        "make_sync_azure_openai_chat_completion_request",
        "make_azure_openai_chat_completion_request",
    ),
}
"""Of the modules that send the requests the class and its methods."""


class Asked(dict[str, Any]):
    """
    A request's options to which we have added ours.

    Args:
        said: The program's own options.
        server: The address that they are sent to.
    """

    def __init__(self, said: dict[str, Any] | None, server: str) -> None:
        super().__init__({**(said or {}), "include_usage": True})
        self.said = said
        self.server = server


class StreamUsage:
    """Sets the options of the streams that are about to be sent."""

    def __init__(self, *, is_on: bool) -> None:
        self._is_on = is_on
        self._refusing: set[object] = set()
        self._watched: set[str] = set()
        """The providers whose requests can be sent again."""

    def patch(self, patches: Patches) -> None:
        """Send again, without the options, what a server refused because of them."""
        if self._is_on:
            for module in _REQUESTS:
                patches.after_import(module, lambda found: self._watch(found, patches))

    @guarded
    def ask(self, details: dict[str, Any]) -> None:
        """Ask for the usage of a stream that is about to be sent, unless the program said no."""
        if not self._is_on or details.get("stream") is not True:
            return
        if details.get("custom_llm_provider") not in self._watched:
            return
        sent = details["additional_args"]
        body, server = sent.get("complete_input_dict"), str(sent.get("api_base")).rstrip("/")
        if not isinstance(body, dict) or server in self._refusing:
            return
        said = body.get("stream_options")
        if said is None or "include_usage" not in said:
            body["stream_options"] = Asked(said, server)

    def _watch(self, module: ModuleType, patches: Patches) -> None:
        name, *methods = _REQUESTS[module.__name__]
        owner = getattr(module, name, None)
        if owner is None or not all(method in vars(owner) for method in methods):
            return
        patches.replace(owner, methods[0], self._retreating)
        patches.replace(owner, methods[1], self._retreating_async)
        self._watched.add(module.__name__.rpartition(".")[2])

    def _retreating(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def request(owner: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return original(owner, *args, **kwargs)
            except Exception as error:
                if not self._is_refused(error, args, kwargs):
                    raise
            return original(owner, *args, **kwargs)

        return request

    def _retreating_async(
        self, original: Callable[..., Awaitable[Any]]
    ) -> Callable[..., Awaitable[Any]]:
        @functools.wraps(original)
        async def request(owner: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return await original(owner, *args, **kwargs)
            except Exception as error:
                if not self._is_refused(error, args, kwargs):
                    raise
            return await original(owner, *args, **kwargs)

        return request

    @guarded
    def _is_refused(self, error: Exception, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Tell whether a server refused our options; they are taken out of the request then."""
        body = kwargs.get("data", args[1] if len(args) > 1 else None)
        if not isinstance(body, dict) or status_of(error) not in (400, 422):
            return False
        asked = body.get("stream_options")
        if not isinstance(asked, Asked) or not any(field in str(error) for field in _FIELDS):
            return False
        self._refusing.add(asked.server)
        if asked.said is None:
            del body["stream_options"]
        else:
            body["stream_options"] = asked.said
        return True
