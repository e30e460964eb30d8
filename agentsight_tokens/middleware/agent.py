"""The middleware of LangChain's agents; langchain is imported when one is made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

from agentsight_tokens.context import ContextMonitor
from agentsight_tokens.faults import contained

from .arguments import CallArguments
from .caller import Caller, CallFacts
from .run import Run, reported

__all__ = ["AgentHooks", "agent_middleware"]

_MODEL_FIELDS = ("model_name", "model")


class AgentHooks:
    """
    What LangChain calls before and around each call of an agent's model.

    Args:
        caller: What is done before and after each call.
        context: Compresses messages; None leaves them as they are.
    """

    def __init__(self, caller: Caller, context: ContextMonitor | None) -> None:
        super().__init__()
        self._caller = caller
        self._context = context
        self._model: str | None = None  # of the newest call; the state does not name it

    def before_model(self, state: Any, runtime: Any) -> dict[str, Any] | None:
        """Compress the agent's messages if they fill the window too far."""
        with contained("compressing a context"), self._caller.surroundings({}):
            messages = self._caller.crowded(state["messages"], self._model)
            if messages is not None and self._context is not None:
                return _replaced(reported(self._context.compress(messages, model=self._model)))
        return None

    async def abefore_model(self, state: Any, runtime: Any) -> dict[str, Any] | None:
        """Compress the agent's messages if they fill the window too far."""
        with contained("compressing a context"), self._caller.surroundings({}):
            messages = self._caller.crowded(state["messages"], self._model)
            if messages is not None and self._context is not None:
                result = await self._context.acompress(messages, model=self._model)
                return _replaced(reported(result))
        return None

    def wrap_model_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        """Hold the call's budget while the model is called."""
        run = self._run(request)
        with self._caller.surroundings({}):
            self._caller.compress(run, CallFacts())
        try:
            with run.scope({}):
                self._caller.prepare(run, CallFacts())
                response = handler(_changed(request, run.arguments))
        except BaseException as error:
            run.fail(error)
            raise
        run.end(_answer(response))
        return response

    async def awrap_model_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """Hold the call's budget while the model is called."""
        run = self._run(request)
        with self._caller.surroundings({}):
            await self._caller.acompress(run, CallFacts())
        try:
            with run.scope({}):
                await self._caller.aprepare(run, CallFacts())
                response = await handler(_changed(request, run.arguments))
        except BaseException as error:
            run.fail(error)
            raise
        run.end(_answer(response))
        return response

    def _run(self, request: Any) -> Run:
        arguments = _arguments(request)
        self._model = arguments.model
        return self._caller.run(arguments)


def agent_middleware(caller: Caller, context: ContextMonitor | None) -> Any:
    """
    Return an `AgentMiddleware` that holds budgets and keeps an agent's context small.

    Before a call that would fill the model's window too far, the agent's own messages are
    compressed, so that a summary is made once; before its first call, which tells the model,
    only what is sent. Around the call its budget is held; one that a budget does not allow is
    not made.

    Args:
        caller: What is done before and after each call.
        context: Compresses messages; None leaves them as they are.

    Raises:
        ImportError: If langchain is not installed.
    """
    try:
        base = import_module("langchain.agents.middleware").AgentMiddleware
    except ImportError as error:
        raise ImportError("an agent's middleware needs langchain: pip install langchain") from error
    return type("TokenAgentMiddleware", (AgentHooks, base), {})(caller, context)


def _replaced(messages: list[Any]) -> dict[str, Any]:
    """Return the change of an agent's state that replaces all its messages."""
    remove = import_module("langchain_core.messages").RemoveMessage
    everything = import_module("langgraph.graph.message").REMOVE_ALL_MESSAGES
    return {"messages": [remove(id=everything), *messages]}


def _arguments(request: Any) -> CallArguments:
    """Return what a model is asked, as the arguments of a call."""
    system = [request.system_message] if request.system_message is not None else []
    model = request.model
    names = [getattr(model, field, None) for field in _MODEL_FIELDS]
    most = request.model_settings.get("max_tokens", getattr(model, "max_tokens", None))
    temperature = request.model_settings.get("temperature", getattr(model, "temperature", None))
    asked: dict[str, Any] = {
        "messages": [*system, *request.messages],
        "model": next((name for name in names if isinstance(name, str)), None),
        "max_tokens": most,
        "temperature": temperature,
        "tools": [_definition(tool) for tool in request.tools],
    }
    given = {name: value for name, value in asked.items() if value is not None}
    return CallArguments(None, (), given, output_name="max_tokens")


def _changed(request: Any, arguments: CallArguments) -> Any:
    """Return the request with what was changed of its arguments."""
    model = request.model
    changes: dict[str, Any] = {}
    before = [m for m in (request.system_message, *request.messages) if m is not None]
    messages = arguments.messages or []
    if len(messages) != len(before) or any(
        a is not b for a, b in zip(messages, before, strict=True)
    ):
        changes["messages"] = [m for m in messages if m is not request.system_message]
    for field in _MODEL_FIELDS:
        if isinstance(getattr(model, field, None), str) and arguments.model is not None:
            if getattr(model, field) != arguments.model:
                changes["model"] = model.model_copy(update={field: arguments.model})
            break
    most = request.model_settings.get("max_tokens", getattr(model, "max_tokens", None))
    if arguments.max_output_tokens not in (None, most):
        settings = {**request.model_settings, "max_tokens": arguments.max_output_tokens}
        changes["model_settings"] = settings
    return request.override(**changes) if changes else request


def _definition(tool: Any) -> Any:
    """Return the definition of a tool, as its tokens are counted."""
    if isinstance(tool, dict):
        return tool
    convert = import_module("langchain_core.utils.function_calling").convert_to_openai_tool
    return convert(tool)


def _answer(response: Any) -> Any:
    """Return the message of a model's response."""
    result = getattr(response, "result", None)
    return result[-1] if isinstance(result, list) and result else response
