"""The callback that LangChain tells of every call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

from langchain_core.callbacks.base import BaseCallbackHandler

from agentsight_tokens.errors import BudgetExceededError, InvalidScopeError
from agentsight_tokens.faults import guarded, report_fault
from agentsight_tokens.meter import Asked, Meter, OpenCall
from agentsight_tokens.usage import Operation
from agentsight_tokens_wire.asked import asked_of

from .agents import agent_name
from .context import run_in_force
from .failures import failure
from .generation import generation_in_force
from .runs import OpenRuns, Run, ToolRuns
from .usage import first_generation, is_cache_hit, read_answer

__all__ = ["UsageCallback", "usage_callback"]

_NOTHING: Final[dict[str, Any]] = {}


class UsageCallback(BaseCallbackHandler):
    """
    Turns the events of LangChain's runs into calls on the meter.

    There is one for each process, and whatever copies or pickles it gets that one.
    """

    raise_error = True
    """Only `BudgetExceededError` ever leaves a method, and it is meant to stop the call."""
    run_inline = True
    """In the caller's own thread and task, where the scope in force can be seen."""
    ignore_llm = False
    """Asked for each chunk, and a property of the base takes longer."""
    ignore_chat_model = False

    def __init__(self) -> None:
        self.meter: Meter | None = None
        self.runs = OpenRuns()
        self.tools = ToolRuns()

    def __copy__(self) -> UsageCallback:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> UsageCallback:
        return self

    def __reduce__(self) -> tuple[Any, tuple[()]]:
        return _the_callback, ()

    @property
    def ignore_chain(self) -> bool:
        """Whether chains matter: only those inside a tool, to know the tool's calls."""
        return not self.tools.names

    @property
    def ignore_agent(self) -> bool:
        """Whether tools do not matter; LangChain asks for a tool's events what it asks for agents."""
        return self.meter is None

    @property
    def ignore_retriever(self) -> bool:
        """Retrievers do not matter; their embeddings are counted where they are sent."""
        return True

    @property
    def ignore_custom_event(self) -> bool:
        """The program's own events do not matter."""
        return True

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[Any],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Begin a call."""
        # What is told of every call or chunk is not `guarded`, which would take its own time.
        try:
            prompt = id(messages[0]) if messages else 0
            if self.meter is None or self.runs.repeat(run_id, prompt):
                return
            self._start(
                self.meter,
                "chat",
                run_id,
                parent_run_id,
                metadata,
                lambda: asked_of(messages[0], kwargs.get("invocation_params")),
                prompt,
            )
        except BudgetExceededError:
            raise
        except Exception as error:  # noqa: BLE001  # this is the boundary
            report_fault("on_chat_model_start", error)

    @guarded
    def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: list[str],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Begin a call of a legacy model, which sends a whole batch as one request."""
        meter = self.meter
        if meter is None or self.runs.repeat(run_id, id(prompts)):
            return
        batch = id(kwargs.get("invocation_params")) if kwargs.get("batch_size", 1) > 1 else 0
        self._start(
            meter,
            "completion",
            run_id,
            parent_run_id,
            metadata,
            lambda: asked_of(prompts, kwargs.get("invocation_params")),
            id(prompts),
            batch,
        )

    def on_llm_new_token(  # all is named, so that Python puts nothing in a dict
        self,
        token: Any,
        *,
        chunk: Any = None,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Note when the first token came, and the usage that a chunk carries."""
        try:
            run = self.runs.get(run_id)
            if run is None:
                return
            message = getattr(chunk, "message", None)
            if not run.has_first_token and (token or getattr(message, "tool_call_chunks", None)):
                run.has_first_token = True
                run.call.first_token()
            usage = getattr(message, "usage_metadata", None)
            if usage:
                run.add_report(usage)
        except Exception as error:  # noqa: BLE001  # this is the boundary
            report_fault("on_llm_new_token", error)

    def on_llm_end(
        self, response: Any, *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        """Finish a call with what its result says."""
        try:
            run = self.runs.close(run_id)
            call = self._lost(run_id, parent_run_id) if run is None else run.call
            if call is not None and not call.is_finished:
                self._finish(run_id, run, call, response)
        except BudgetExceededError:
            raise
        except Exception as error:  # noqa: BLE001  # this is the boundary
            report_fault("on_llm_end", error)

    @guarded
    def on_llm_error(
        self,
        error: BaseException,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **kwargs: Any,
    ) -> None:
        """Finish a call that failed; it may still have been billed."""
        run = self.runs.close(run_id)
        call = self._lost(run_id, parent_run_id) if run is None else run.call
        if call is None or call.is_finished:
            return
        if isinstance(error, BudgetExceededError):  # refused before it was sent
            call.drop()
            return
        call.finish(**failure(run, call, error, kwargs.get("response")))

    @guarded
    def on_tool_start(
        self, serialized: dict[str, Any] | None, input_str: str, *, run_id: UUID, **kwargs: Any
    ) -> None:
        """Note that a tool is at work."""
        self.tools.open(run_id, (serialized or {}).get("name") or "tool")

    @guarded
    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Note that a tool is done."""
        self.tools.close(run_id)

    @guarded
    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Note that a tool is done."""
        self.tools.close(run_id)

    @guarded
    def on_chain_start(
        self,
        serialized: dict[str, Any],
        inputs: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **kwargs: Any,
    ) -> None:
        """Note that a chain runs inside a tool."""
        name = self._tool_name(parent_run_id)
        if name is not None:
            self.tools.open(run_id, name)

    @guarded
    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Note that a chain is done."""
        self.tools.close(run_id)

    @guarded
    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Note that a chain is done."""
        self.tools.close(run_id)

    def _start(  # noqa: PLR0913  # by position, because this is done for each call
        self,
        meter: Meter,
        operation: Operation,
        run_id: UUID,
        parent_run_id: UUID | None,
        metadata: dict[str, Any] | None,
        asked: Callable[[], Asked],
        prompt: int,
        batch: int = 0,
    ) -> None:
        generation = generation_in_force()
        known = metadata or _NOTHING
        model, provider = known.get("ls_model_name"), known.get("ls_provider")
        tool_name = self._tool_name(parent_run_id) if self.tools.names else None
        try:
            call = meter.begin(
                "langchain",
                operation,
                model=model,
                provider=provider,
                metadata=metadata,
                fallback_conversation_id=known.get("thread_id"),
                agent=agent_name(known),
                tool_name=tool_name,
                surrounds=generation is None,  # else what it is around is known more exactly
                asked=asked,
            )
        except InvalidScopeError as error:  # the call is counted, whatever its names are
            report_fault("attribution of a LangChain call", error)
            call = meter.begin(
                "langchain",
                operation,
                model=model,
                provider=provider,
                tool_name=tool_name,
                surrounds=generation is None,
                asked=asked,
            )
        run = Run(call, run_id, prompt, batch)
        self.runs.open(run_id, run)
        if generation is not None:
            generation.runs[getattr(run_id, "int", run_id)] = run

    def _finish(self, run_id: UUID, run: Run | None, call: OpenCall, response: Any) -> None:
        generation, output = first_generation(response), response.llm_output
        if not output and is_cache_hit(run_id, run, getattr(generation, "message", None), output):
            call.drop()
            return
        answer = read_answer(run, generation, output, call.provider)
        usage = answer.usage
        if run is not None and run.batch:
            if usage is not None:
                self.runs.count_siblings(run)
            elif run.is_counted_by_sibling and answer.is_part_of_batch:
                call.drop()
                return
        was_streamed = usage is None and run is not None and run.was_streamed
        # Every call has an input. Where none is told it was told somewhere else: langchain-anthropic
        # (1.7) keeps no usage of `message_start`.
        lacks_input = usage is not None and not usage.input_tokens and usage.output_tokens
        call.finish(
            usage,
            model=answer.model,
            provider=call.provider or answer.provider,
            status="partial" if lacks_input else "ok",
            unreported_reason="stream_without_usage" if was_streamed else None,
            response_id=answer.response_id,
            service_tier=answer.service_tier,
        )

    def _tool_name(self, parent_run_id: UUID | None) -> str | None:
        # A tool is given the configuration of its caller, and a call that it makes with that
        # is no child of its run.
        return self.tools.name(parent_run_id) or self.tools.name(run_in_force())

    def _lost(self, run_id: UUID, parent_run_id: UUID | None) -> OpenCall | None:
        """Return the call of a run that ends and is not open; None if it ended before."""
        if self.meter is None or self.runs.has_ended(run_id):
            return None
        # langchain#39633: a start may have been lost, but the call was made.
        tool_name = self._tool_name(parent_run_id)
        return self.meter.begin("langchain", tool_name=tool_name, surrounds=False)


usage_callback: Final = UsageCallback()
"""The process's callback."""


def _the_callback() -> UsageCallback:
    return usage_callback
