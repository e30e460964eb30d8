"""What LangChain tells of its runs, turned into calls on the meter."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import CodeType
from typing import Any, Final
from uuid import UUID

from agentsight_tokens.errors import BudgetExceededError
from agentsight_tokens.faults import guarded, report_fault
from agentsight_tokens.meter import Asked, Meter
from agentsight_tokens.usage import Operation
from agentsight_tokens_wire.asked import asked_of

from .agents import agent_name, names_no_agent
from .context import run_in_force
from .failures import failure
from .runs import OpenRuns, Run, ToolRuns
from .settings import settings_of
from .usage import first_generations, is_cache_hit, read_answer

__all__ = ["RunEvents", "run_events"]

_NOTHING: Final[dict[str, Any]] = {}


class RunEvents:
    """
    The runs that are told of, each a call on the meter; there is one for each process.

    Of what is told, only `BudgetExceededError` is ever raised, and it is meant to stop the
    call. What is told of every call or chunk is not `guarded`, which would take its own time.
    """

    def __init__(self) -> None:
        self.meter: Meter | None = None
        self.runs = OpenRuns()
        self.tools = ToolRuns()
        self.asks_later: dict[int, CodeType] = {}
        """The code that tells of starts before a model is asked, by its identity."""

    def watch_later_in(self, codes: Iterable[CodeType]) -> None:
        """Begin no call at a start that is told from there: the model is asked after it."""
        for code in codes:
            self.asks_later[id(code)] = code

    def started(
        self, operation: Operation, runs: Sequence[Any], args: Sequence[Any], told: dict[str, Any]
    ) -> None:
        """
        Begin a call for each of the runs that a start has returned.

        Args:
            operation: What the model does.
            runs: The runs' own callback managers, which know their ids and metadata.
            args: The model as LangChain serialised it, and for each run the messages or the text.
            told: What was told by name, the parameters of the call among it.
        """
        meter = self.meter
        if meter is None:
            return
        try:
            prompts = args[1] if len(args) > 1 else told.get("messages") or told["prompts"]
            for run, prompt in zip(runs, prompts, strict=False):
                asked = functools.partial(asked_of, prompt, told.get("invocation_params"))
                self.runs.open(self._begun(meter, run, operation, surrounds=True, asked=asked))
        except BudgetExceededError:
            raise
        except Exception as error:  # noqa: BLE001  # this is the boundary
            report_fault("the start of a LangChain run", error)

    def asked(
        self,
        model: Any,
        prompt: Any,
        stop: Any,
        manager: Any,
        told: Mapping[str, Any],
        operation: Operation = "chat",
    ) -> Run | None:
        """
        Begin the call of a model that is about to be asked.

        Args:
            model: The model.
            prompt: What it is asked: messages, or a legacy model's text.
            stop: The words that end the answer.
            manager: The run's own callback manager.
            told: What else is set for the call.
            operation: What the model does.

        Returns:
            Its run; None if there is none.
        """
        meter = self.meter
        if meter is None or manager is None:
            return None
        try:
            run_id = manager.run_id
            run = self.runs.by_key.get(getattr(run_id, "int", run_id))
            if run is None or run.manager is not manager:  # else its start was told from elsewhere
                asked = functools.partial(_asked_with, prompt, model, stop, told)
                # What it is around is known more exactly.
                run = self._begun(meter, manager, operation, surrounds=False, asked=asked)
                self.runs.open(run)
        except BudgetExceededError:
            raise
        except Exception as error:  # noqa: BLE001  # this is the boundary
            report_fault("asking a LangChain model", error)
            return None
        return run

    def batch_asked(
        self, model: Any, prompts: Sequence[str], managers: Sequence[Any], told: Mapping[str, Any]
    ) -> list[Run]:
        """
        Begin the calls of a legacy model that is about to be asked several prompts at once.

        Args:
            model: The model.
            prompts: What it is asked.
            managers: The runs' own callback managers, one for each prompt.
            told: What else is set for the call.
        """
        runs: list[Run] = []
        for manager, prompt in zip(managers or (), prompts, strict=False):
            run = self.asked(model, prompt, None, manager, told, "completion")
            if run is not None:
                # They are sent as one request, and each has a run.
                run.batch = id(managers) if len(managers) > 1 else 0
                runs.append(run)
        return runs

    def answered(self, run: Run, generations: Sequence[Any], output: Any) -> None:
        """
        Finish a call with what its answer says.

        Args:
            run: Its run.
            generations: The choices; only the first is read, because each repeats the usage of
                all.
            output: What the model says beside them.
        """
        try:
            call = run.call
            # Not of a batch, whose other runs are yet to be told that this one has the usage.
            if call.has_record and not run.batch:
                call.forget()  # the SDK beneath has told what it used
                return
            message = getattr(generations[0], "message", None) if generations else None
            if not output and is_cache_hit(run, message):
                call.drop()
                return
            answer = read_answer(run, message, output)
            usage = answer.usage
            if run.batch:
                if usage is not None:
                    self.runs.count_siblings(run)
                elif run.is_counted_by_sibling and answer.is_part_of_batch:
                    call.drop()
                    return
            # Every call has an input. Where none is told it was told somewhere else:
            # langchain-anthropic (1.7) keeps no usage of `message_start`.
            lacks_input = usage is not None and not usage.input_tokens and usage.output_tokens
            call.finish(
                usage,
                model=answer.model,
                provider=call.provider or answer.provider,
                status="partial" if lacks_input else "ok",
                unreported_reason="stream_without_usage" if run.was_streamed else None,
                response_id=answer.response_id,
                service_tier=answer.service_tier,
            )
        except BudgetExceededError:
            raise
        except Exception as error:  # noqa: BLE001  # this is the boundary
            report_fault("the answer of a LangChain model", error)

    def token(self, run_id: UUID, token: Any, chunk: Any) -> None:
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
            report_fault("a token of a LangChain run", error)

    def ended(self, manager: Any, response: Any) -> None:
        """Finish a call with what its result says, unless its answer was seen before."""
        try:
            run = self.runs.close(manager.run_id) or self._lost(manager)
            if run is not None and not run.call.is_finished:
                self.answered(run, first_generations(response), response.llm_output)
        except BudgetExceededError:
            raise
        except Exception as error:  # noqa: BLE001  # this is the boundary
            report_fault("the end of a LangChain run", error)

    @guarded
    def failed(self, manager: Any, error: BaseException, response: Any) -> None:
        """Finish a call that failed; it may still have been billed."""
        run = self.runs.close(manager.run_id)
        if isinstance(error, BudgetExceededError):  # refused before it was sent
            if run is not None:
                run.call.drop()
            return
        run = run or self._lost(manager)
        if run is not None and not run.call.is_finished:
            run.call.finish(**failure(run, error, response))

    @guarded
    def tool_started(self, run_id: UUID, serialized: Mapping[str, Any] | None) -> None:
        """Note that a tool is at work."""
        self.tools.open(run_id, (serialized or {}).get("name") or "tool")

    @guarded
    def chain_started(self, run_id: UUID, parent_run_id: UUID | None) -> None:
        """Note that a chain runs inside a tool."""
        name = self._tool_name(parent_run_id)
        if name is not None:
            self.tools.open(run_id, name)

    @guarded
    def closed(self, run_id: UUID) -> None:
        """Note that a tool or a chain is done."""
        self.tools.close(run_id)

    def _begun(
        self,
        meter: Meter,
        manager: Any,
        operation: Operation,
        *,
        surrounds: bool,
        asked: Callable[[], Asked] | None,
    ) -> Run:
        """Return the run of a callback manager, with a call that begins now."""
        metadata = manager.metadata
        known = metadata or _NOTHING
        call = meter.begin(
            "langchain",
            operation,
            model=known.get("ls_model_name"),
            provider=known.get("ls_provider"),
            metadata=metadata,
            fallback_conversation_id=known.get("thread_id"),
            agent=None if names_no_agent(known) else agent_name(known),
            tool_name=self._tool_name(manager.parent_run_id) if self.tools.names else None,
            surrounds=surrounds,
            asked=asked,
        )
        run_id = manager.run_id
        return Run(call, manager, getattr(run_id, "int", run_id))

    def _tool_name(self, parent_run_id: UUID | None) -> str | None:
        # A tool is given the configuration of its caller, and a call that it makes with that
        # is no child of its run.
        return self.tools.name(parent_run_id) or self.tools.name(run_in_force())

    def _lost(self, manager: Any) -> Run | None:
        """Return the run of a manager that ends and is not open; None if it ended before."""
        if self.meter is None or self.runs.ends_again(manager.run_id):
            return None
        # Its start was not heard, as of one before this listened, but the call was made.
        return self._begun(self.meter, manager, "chat", surrounds=False, asked=None)


def _asked_with(prompt: Any, model: Any, stop: Any, told: Mapping[str, Any]) -> Asked:
    """Return what is asked of a model; only where a budget is to be held, for that takes time."""
    return asked_of(prompt, told, settings_of(model, stop, told))


run_events: Final = RunEvents()
"""Those of the process."""
