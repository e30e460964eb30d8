"""LiteLLMHandler: registers with LiteLLM when the program imports it."""

from __future__ import annotations

from threading import RLock
from types import ModuleType
from typing import ClassVar

from agentsight_tokens.config import TokenConfig
from agentsight_tokens.meter import Meter, OpenCall

from .barrier import Barrier
from .caches import watch_caches
from .call import request_in_force
from .calls import CallTable
from .patches import Patches
from .refusals import Refusals
from .registration import Registration
from .stream_usage import StreamUsage
from .streams import StreamWatch
from .threads import RUNNERS, carry_into_batches, carry_into_loops

__all__ = ["LiteLLMHandler"]


class LiteLLMHandler:
    """
    Counts the calls of LiteLLM: completions, Responses, embeddings, images and transcriptions.

    Nothing here imports LiteLLM, which takes seconds and a hundred megabytes.
    """

    name: ClassVar[str] = "litellm"
    framework: ClassVar[str] = "litellm"
    extra: ClassVar[str] = "agentsight-tokens[litellm]"

    def __init__(self) -> None:
        self._lock = RLock()
        self._patches: Patches | None = None

    def install(self, meter: Meter, config: TokenConfig) -> None:
        """Count from now on, or from LiteLLM's import on."""
        with self._lock:
            if self._patches is not None:
                return
            patches = self._patches = Patches()
        # Outside the lock: an import may be under way in another thread.
        table = CallTable(meter)
        barrier = Barrier(table)
        stream_usage = StreamUsage(is_on=config.stream_usage)
        streams = StreamWatch(table, barrier, patches)
        patches.after_import(
            "litellm", lambda found: _register(found, table, barrier, stream_usage, patches)
        )
        stream_usage.patch(patches)
        for name, hook in {
            "litellm.litellm_core_utils.streaming_handler": streams.watch_chats,
            "litellm.responses.streaming_iterator": streams.watch_responses,
            "litellm.caching.caching_handler": lambda found: watch_caches(found, table, patches),
            "litellm.batch_completion.main": lambda found: carry_into_batches(found, patches),
            **dict.fromkeys(RUNNERS, lambda found: carry_into_loops(found, patches)),
        }.items():
            patches.after_import(name, hook)
        meter.barriers.append(barrier.settle)
        meter.finders.append(_call_in_force)
        patches.on_undo(lambda: meter.barriers.remove(barrier.settle))
        patches.on_undo(lambda: meter.finders.remove(_call_in_force))
        patches.on_undo(table.close)

    def uninstall(self) -> None:
        """Undo `install`; what is under way is counted as unreported."""
        with self._lock:
            patches, self._patches = self._patches, None
        if patches is not None:
            patches.undo()


def _register(
    litellm: ModuleType,
    table: CallTable,
    barrier: Barrier,
    stream_usage: StreamUsage,
    patches: Patches,
) -> None:
    from .logger import AgentSightUsageLogger  # imports LiteLLM

    refusals = Refusals()
    registration = Registration(litellm, table, refusals)
    registration.logger = AgentSightUsageLogger(
        table,
        barrier,
        stream_usage=stream_usage,
        refusals=refusals,
        register=registration.ensure,
    )
    registration.ensure()
    patches.after_import("litellm.utils", lambda found: registration.watch_setup(found, patches))
    patches.after_import(
        "litellm.litellm_core_utils.litellm_logging",
        lambda found: registration.watch_failures(found, patches),
    )
    patches.after_import(
        "litellm.litellm_core_utils.litellm_logging",
        lambda found: refusals.watch_requests(found, patches),
    )
    patches.after_import("litellm.router", lambda found: refusals.watch_router(found, patches))
    patches.on_undo(registration.remove)


def _call_in_force() -> OpenCall | None:
    """
    Return the asynchronous call that this task waits for.

    Some of them begin in another thread, with a copy of the task's context, before the task
    itself sends the request.
    """
    request = request_in_force.get()
    return request.call if request is not None else None
