"""The command that shares a model on the hub: push."""

from pathlib import Path
from typing import Annotated

import typer

from tiebreak import terminal
from tiebreak.cli.options import Sets


def push(
    where: Annotated[
        Path, typer.Argument(metavar="RUN_OR_MODEL", help="A recipe that ran, or a model folder.")
    ],
    name: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="On the hub; made if it is not there.")],
    private: Annotated[
        bool, typer.Option("--private", help="Make it private; one that is there and public is refused.")
    ] = False,
    license_: Annotated[
        str | None,
        typer.Option("--license", help="Such as apache-2.0; that of the base by default, where it is known."),
    ] = None,
    set_: Sets = None,
) -> None:
    """Push a model to the Hugging Face hub in one commit, with its card.

    It is read whole first, and refused if it is damaged. The login is that of `hf auth login`, or the token in HF_TOKEN.
    """
    from tiebreak.commands import outputs
    from tiebreak.commands import push as pushing

    outputs.refuse_unused(set_, [where])
    done = pushing.push(where, name, private, license_, set_ or ())
    if not done.changed:
        terminal.note("all of it was there already")
    terminal.result(done.address)
    terminal.note(
        f"{'private' if done.private else 'public'}, commit {done.commit}; "
        f'to load it: tiebreak.load("{name}", revision="{done.commit}")'
    )
