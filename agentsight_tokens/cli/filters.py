"""The options that select calls, the same for every command that lists or adds them up."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone, tzinfo
from typing import Annotated, Any, Final, get_args

import typer

from agentsight_tokens.config import TokenConfig
from agentsight_tokens.privacy import stored_user_id
from agentsight_tokens.usage import CallStatus, Operation

from .times import read_time, read_zone

__all__ = ["Selection", "selecting"]

_SCOPE: Final = "Filters"
_TIME: Final = "Time"


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which calls are asked for."""

    where: dict[str, Any]
    """The filter, as `backend.analytics` takes it."""
    zone: tzinfo
    """The zone in which days begin and times are shown."""
    zone_name: str

    @property
    def words(self) -> str:
        """The filter in words; empty if every call is selected."""
        return ", ".join(
            f"{name.removesuffix('_id')} {_word(value)}" for name, value in self.where.items()
        )


_FILTERS: Final = {
    "conversation": ("conversation_id", "Only this conversation."),
    "session": ("session_id", "Only this session."),
    "user": ("user_id", "Only this user, also where ids are hashed."),
    "org": ("org_id", "Only this organisation."),
    "agent": ("agent", "Only this agent."),
    "feature": ("feature", "Only this feature."),
    "tag": ("tags", "Only calls with this tag; all of them when repeated."),
    "model": ("model", "Only this model, as the provider names it."),
    "provider": ("provider", "Only this provider."),
    "operation": ("operation", f"Only these: {', '.join(get_args(Operation))}."),
    "status": ("status", f"Only calls that ended so: {', '.join(get_args(CallStatus))}."),
    "handler": ("handler", "Only what this handler captured."),
    "environment": ("environment", "Only this environment: production, ..."),
}
"""The column and the help of each option."""
_CLOSED: Final = {"operation": get_args(Operation), "status": get_args(CallStatus)}


def selecting(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that select calls; it gets them as `selection`."""
    own = [
        parameter
        for parameter in inspect.signature(command, eval_str=True).parameters.values()
        if parameter.name != "selection"
    ]
    added = [*_time_options(), *_filter_options()]

    def run(**options: Any) -> None:
        chosen = {parameter.name: options.pop(parameter.name) for parameter in added}
        command(selection=_selection(chosen), **options)

    # Typer reads the options from the signature and the annotations.
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]  # any function may carry one
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *added]}
    return run


def _selection(chosen: dict[str, Any]) -> Selection:
    zone = read_zone(chosen["timezone"])
    now = datetime.now(timezone.utc)
    since = read_time("--since", chosen["since"], zone, now=now)
    until = read_time("--until", chosen["until"], zone, now=now)
    if since is not None and until is not None and since >= until:
        raise typer.BadParameter(
            f"{chosen['until']!r} is not after --since {chosen['since']!r}: "
            "nothing lies between them",
            param_hint="--until",
        )
    for option, known in _CLOSED.items():
        if chosen[option] not in {None, *known}:
            raise typer.BadParameter(
                f"{chosen[option]!r} is none of {', '.join(known)}", param_hint=f"--{option}"
            )
    where = {column: chosen[option] or None for option, (column, _) in _FILTERS.items()}
    where |= {"since": since, "until": until}
    if where["user_id"] is not None:
        where["user_id"] = stored_user_id(where["user_id"], TokenConfig())
    return Selection(
        where={name: value for name, value in where.items() if value is not None},
        zone=zone,
        zone_name=chosen["timezone"],
    )


def _time_options() -> list[inspect.Parameter]:
    return [
        _option("since", "TIME", "Only calls from then on: 2026-01-31, 7d, today.", _TIME),
        _option("until", "TIME", "Only calls before then; it is not included.", _TIME),
        inspect.Parameter(
            "timezone",
            inspect.Parameter.KEYWORD_ONLY,
            default="UTC",
            annotation=Annotated[
                str,
                typer.Option(
                    metavar="ZONE",
                    help="Where days begin: Europe/Berlin.",
                    rich_help_panel=_TIME,
                ),
            ],
        ),
    ]


def _filter_options() -> list[inspect.Parameter]:
    return [_option(name, "TEXT", text, _SCOPE) for name, (_, text) in _FILTERS.items()]


def _option(name: str, metavar: str, text: str, panel: str) -> inspect.Parameter:
    kind: Any = list[str] if name == "tag" else str
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[
            kind | None, typer.Option(metavar=metavar, help=text, rich_help_panel=panel)
        ],
    )


def _word(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat(" ", "minutes")
    return " and ".join(value) if isinstance(value, list) else str(value)
