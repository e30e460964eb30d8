"""Where the demo is played: its directory, its provider and its clients."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import typer

from agentsight_tokens import ConversationTracker, TokenConfig
from agentsight_tokens.backend.analytics import UsageReport, usage_by
from agentsight_tokens.cli.embedded import reading
from agentsight_tokens.cli.screen import failure, waiting_sign
from agentsight_tokens.config import environment_variables
from agentsight_tokens.destinations.embedded import EmbeddedDestination
from agentsight_tokens.ids import time_ordered_id
from agentsight_tokens.runtime import embedded_store
from agentsight_tokens.testing import LoopbackProvider

from .cast import Cast
from .clients import Client, Provider
from .comparison import compared
from .programme import Programme
from .script import CONVERSATIONS, Conversation, Step, answer

__all__ = ["Settings", "run"]

DELIVERY_SECONDS: Final = 10.0
LIVE_MODEL: Final = "gpt-4o-mini"


class Settings(NamedTuple):
    """What was asked for."""

    is_live: bool
    model: str | None
    """The chat model in place of the script's."""
    is_kept: bool
    data_dir: str | None


def run(settings: Settings) -> None:
    """
    Play the demo.

    Raises:
        typer.BadParameter: If it is to be live without a key.
        typer.Exit: If a call fails, or the ledgers differ.
    """
    programme = Programme()
    with (
        warnings.catch_warnings(),
        _directory(settings) as directory,
        LoopbackProvider(respond=answer, keep_alive=False) as loopback,
    ):
        warnings.simplefilter("ignore")  # what frameworks say is no part of the show
        stage = _Stage(settings, directory, _provider(settings, loopback), programme)
        stage.play()
        is_equal = _settle(settings, stage, loopback, programme)
        is_by_hand = not stage.cast.installed
    programme.print_end(
        directory if settings.is_kept or settings.data_dir else None, is_by_hand=is_by_hand
    )
    if not is_equal:
        raise typer.Exit(1)


class _Stage:
    """The tracker and the clients, and what they do."""

    def __init__(
        self, settings: Settings, directory: Path, provider: Provider, programme: Programme
    ) -> None:
        self._tag = f"demo-{time_ordered_id()}"
        """What tells the calls of this run from others in the same directory."""
        self.config = TokenConfig().replace(
            data_dir=str(directory), endpoint=None, conversation_id=None, hash_user_ids=False
        )
        self._settings = settings
        self._programme = programme
        self.cast = Cast(provider)

    def play(self) -> None:
        """Count three conversations and send each."""
        self._programme.print_opening(
            self.cast.installed, self.cast.missing, is_live=self._settings.is_live
        )
        tracker = ConversationTracker(
            config=self.config,
            token_handler=",".join(each.handler for each in self.cast.installed),
            destination=EmbeddedDestination(embedded_store(self.config.directory)),
        )
        with tracker, contextlib.closing(self.cast):
            for conversation in CONVERSATIONS:
                self._converse(conversation, tracker)

    def report(self, by: str) -> UsageReport:
        """Return what is stored of this run."""
        with reading(self.config) as store:
            return usage_by(store, [by], where={"tags": self._tag})

    def _converse(self, conversation: Conversation, tracker: ConversationTracker) -> None:
        title, client = self.cast.client_of(conversation, tracker)
        self._programme.print_conversation(conversation, title)
        printed = 0
        with tracker.conversation(conversation.id, user_id=conversation.user_id, tags=[self._tag]):
            for step in conversation.steps:
                with waiting_sign(step.texts[0]):
                    self._call(step, client)
                calls = tracker.get_usage_history(conversation_id=conversation.id, tags=self._tag)
                self._programme.print_step(step, calls[printed:])
                printed = len(calls)
            result = tracker.send_tracked_data(wait=DELIVERY_SECONDS)
        self._programme.print_cycle(result, calls=printed)

    def _call(self, step: Step, client: Client) -> None:
        is_chat = step.kind != "embed"
        fallback = LIVE_MODEL if self._settings.is_live and is_chat else step.model
        model = (is_chat and self._settings.model) or fallback
        try:
            if step.kind == "chat":
                client.chat(model, step.texts[0])
            elif step.kind == "stream":
                client.stream(model, step.texts[0])
            else:
                client.embed(model, step.texts)
        except Exception as error:  # noqa: BLE001  # each client raises errors of its own
            raise failure(
                f"the call of {model} failed: {type(error).__name__}: {error}", 1
            ) from None


def _settle(
    settings: Settings, stage: _Stage, loopback: LoopbackProvider, programme: Programme
) -> bool:
    """Print the report, hold it against the provider's ledger and tell whether they agree."""
    report = stage.report("conversation")
    programme.print_report(report, stage.report("user"))
    if settings.is_live:
        programme.print_live()
        return True
    loopback.settle()
    comparison = compared(loopback, report)
    programme.print_comparison(comparison)
    return not comparison.differences


def _provider(settings: Settings, loopback: LoopbackProvider) -> Provider:
    if not settings.is_live:
        return Provider("the-loopback-provider-takes-any", loopback.openai_url, is_local=True)
    variables = environment_variables()
    key = variables.get("OPENAI_API_KEY")
    if key is None:
        raise typer.BadParameter(
            "OPENAI_API_KEY is not set; export your key, or leave --live out to see the demo "
            "without any provider",
            param_hint="--live",
        )
    url = variables.get("OPENAI_BASE_URL") or variables.get("OPENAI_API_BASE")
    return Provider(key, url, is_local=False)


@contextlib.contextmanager
def _directory(settings: Settings) -> Iterator[Path]:
    """Give the demo a directory of its own, and take it away again if nobody asked for it."""
    if settings.data_dir is not None:
        path = Path(settings.data_dir).expanduser().absolute()
        path.mkdir(parents=True, exist_ok=True)
        yield path
        return
    path = Path(tempfile.mkdtemp(prefix="agentsight-demo-"))
    try:
        yield path
    finally:
        if not settings.is_kept:
            shutil.rmtree(path, ignore_errors=True)
