"""`deltarl push AGENT REPO`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deltarl.cli.evaluate import BestOption
from deltarl.errors import ConfigError
from deltarl.training.lookup import runs_in
from deltarl.training.packed import found


def push(
    agent: Annotated[
        Path, typer.Argument(metavar="AGENT", help="A packed agent (.zip), or a run to pack.", show_default=False)
    ],
    repo: Annotated[
        str, typer.Argument(metavar="REPO", help="Repository of the Hugging Face Hub: user/name.", show_default=False)
    ],
    *,
    private: Annotated[bool, typer.Option("--private", help="Make the repository private if it is new.")] = False,
    best: BestOption = False,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, help="Of a run: which seed's policy; default: the one with the best score.", show_default=False
        ),
    ] = None,
) -> None:
    """Upload a packed agent to the Hugging Face Hub, where its card is shown.

    huggingface_hub's own settings apply: log in with `hf auth login`, or set HF_TOKEN.

    Example: deltarl push hopper.zip user/ppo-hopper
    """
    from deltarl.export.hub import check_package, push_pack
    from deltarl.scratch import scratch

    check_package("push")
    agent = found(agent)
    runs_in(agent)
    for option, given in (("--best", best), ("--seed", seed is not None)):
        if given and agent.is_file():
            raise ConfigError(f"{option}: a packed agent is one policy; give a run's folder, or leave {option} out")
    visibility = True if private else None
    if agent.is_file():
        address = push_pack(agent, repo, private=visibility)
    else:
        from deltarl.export.pack import pack_run

        with scratch() as folder:
            file = pack_run(agent, folder / "agent.zip", best=best, seed=seed)
            address = push_pack(file, repo, private=visibility)
    typer.echo(address)
