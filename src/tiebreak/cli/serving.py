"""The command that serves a model."""

from pathlib import Path
from typing import Annotated

import typer

from tiebreak.cli import runs
from tiebreak.cli.options import Columns, Precision, Sets, mapping_of
from tiebreak.errors import TiebreakError


def serve(
    where: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A model folder, a recipe that ran or a name on the hub.")
    ],
    host: Annotated[
        str, typer.Option(help="Where to listen; others can connect to all but 127.0.0.1.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 for any that is free.")] = 8000,
    api_key_file: Annotated[
        Path | None,
        typer.Option(help="Keys of clients, one a line; without a file, TIEBREAK_API_KEY holds one."),
    ] = None,
    without_key: Annotated[
        bool, typer.Option("--without-key", help="Let others connect without any key.")
    ] = False,
    votes_file: Annotated[
        Path | None, typer.Option(help="A .jsonl file, to which votes of the page's users are appended.")
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(help="Pairs without votes, on which the page's users vote, the most informative first."),
    ] = None,
    map_: Columns = None,
    name: Annotated[
        str | None, typer.Option(help="What clients call the model; its folder's name by default.")
    ] = None,
    device: Annotated[
        list[str] | None, typer.Option(help="cpu, cuda or cuda:0; given again, a worker on each.")
    ] = None,
    precision: Precision = "auto",
    max_pairs: Annotated[int, typer.Option(min=1, help="Pairs that a request may ask for.")] = 256,
    max_characters: Annotated[int, typer.Option(min=1, help="Of a prompt and of each answer.")] = 200_000,
    max_waiting: Annotated[
        int, typer.Option(min=1, help="Pairs that are accepted and not answered yet.")
    ] = 4096,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds until a request is answered.")] = 60.0,
    set_: Sets = None,
) -> None:
    """Serve a model over HTTP: a page, its own API, and those of vLLM, SGLang and text-embeddings-inference.

    Stopped by SIGTERM or Ctrl-C, it first answers what it has accepted; a second Ctrl-C ends it at once.
    """
    from tiebreak.commands import outputs

    try:
        from tiebreak.serve import keys, server
        from tiebreak.serve.service import Limits
    except ModuleNotFoundError as error:
        raise TiebreakError(
            f"serving needs {error.name}; install it: pip install 'tiebreak[serve]'"
        ) from None
    accepted = keys.read(api_key_file)
    keys.require_key(host, accepted, without_key)
    if max_waiting < max_pairs:
        raise TiebreakError(
            f"--max-waiting {max_waiting} has no room for a request of --max-pairs {max_pairs}"
        )
    if pairs and not votes_file:
        raise TiebreakError("--pairs asks people for votes: name the file that these go to with --votes-file")
    mapping = mapping_of(map_)
    if mapping and not pairs:
        raise TiebreakError("--map names the columns of --pairs, and there are none")
    limits = Limits(text_characters=max_characters, pairs=max_pairs, seconds=timeout)
    outputs.refuse_unused(set_, [where])
    found = outputs.locate_model(where, set_ or ())
    options = server.Options(
        host,
        port,
        name or found.origin.get("hub"),
        device or (),
        precision,
        max_waiting,
        votes_file,
        pairs,
        mapping,
        limits,
    )
    server.serve(found.folder, accepted, options, runs.stop.install())
