"""The command `demo`."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["demo"]


def demo(
    *,
    live: Annotated[
        bool,
        typer.Option(
            "--live",
            help="Call your own provider instead, with OPENAI_API_KEY (and OPENAI_BASE_URL); "
            "7 short calls, well below a cent with the default model.",
        ),
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The chat model; with --live gpt-4o-mini by default."),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the data, and say where they are.")
    ] = False,
    data_dir: Annotated[
        str | None,
        typer.Option(
            "--data-dir",
            metavar="DIRECTORY",
            help="Count into this directory and keep it; by default a temporary one, deleted "
            "in the end.",
        ),
    ] = None,
) -> None:
    """
    Watch three conversations being counted, sent and held against the bill.

    The real clients of LangChain and LlamaIndex, whichever are installed, talk
    to a provider on this machine that bills every call in a ledger of its own:
    no key, no network, no cost. Without either, requests are made and recorded
    by hand. The exit code is 1 if the ledgers differ.

    [bold]Examples[/]

      agentsight-tokens demo

      agentsight-tokens demo --keep

      OPENAI_API_KEY=sk-... agentsight-tokens demo --live
    """
    from .stage import Settings, run

    run(Settings(is_live=live, model=model, is_kept=keep, data_dir=data_dir))
