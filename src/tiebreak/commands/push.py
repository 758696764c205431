"""`tiebreak push`: a model to the Hugging Face hub, in one commit, with its card."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiebreak import terminal
from tiebreak.commands.outputs import evaluation_folder, model_folder, recipe_at
from tiebreak.engine.workspace import Workspace
from tiebreak.errors import TiebreakError
from tiebreak.model import hub, hub_errors
from tiebreak.votes.formats.hub_datasets import parse_location

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import ModelInfo

CARD = "README.md"


@dataclass(frozen=True)
class Pushed:
    """Where a model is on the hub. changed: False where all of it was there already."""

    address: str
    commit: str
    private: bool
    changed: bool


def push(
    where: Path,
    repo: str,
    private: bool = False,
    license_: str | None = None,
    overrides: Sequence[str] = (),
) -> Pushed:
    """Push the model of a recipe that ran, or of a folder, to a repository of the hub, which is made if it is not there.

    All goes in one commit: the files that the model is read from, tiebreak.json and the card. Files of a model that were
    there before are replaced or removed; others stay. license_: of the model; that of its base by default, where the hub
    knows it. Raises TiebreakError, before anything is sent, for a model that is damaged or has no card, a repository that
    holds something else or is public where it should be private, and without a login; and for all that the hub refuses.
    """
    from huggingface_hub import HfApi, get_token

    from tiebreak.evaluate import model_card
    from tiebreak.judge.location import REPOSITORY

    if not REPOSITORY.fullmatch(repo):
        raise TiebreakError(f"{repo!r} is no name of the hub; a model's is OWNER/NAME, such as ada/judge")
    folder = model_folder(where, overrides)
    files = model_files(folder)
    metadata = _metadata(_run(where, folder, overrides))
    card = _read_card(folder)
    if get_token() is None:
        raise hub_errors.no_token()
    with hub.writing(repo):
        api = HfApi()
        if base := metadata.pop("base_model", None):
            metadata |= _base(api, base)
        card = model_card.published(card, repo, metadata, license_)
        _announce(files, card, repo)
        api.create_repo(repo, private=private or None, exist_ok=True)
        return _commit(api, repo, files, card, private)


def model_files(folder: Path) -> dict[str, Path]:
    """The files that a model is read from, by name. Raises TiebreakError for a model that is not whole."""
    from tiebreak.judge import package
    from tiebreak.judge.location import is_read, require_readable

    shipped = package.read(folder)
    missing = hub.missing_file(folder)
    if problem := f"it has no {missing}" if missing else package.damage(shipped, folder):
        raise TiebreakError(
            f"the model in {folder} is damaged or not whole, and nothing was sent or written: {problem}; {package.again(folder)}"
        )
    require_readable(shipped.files, str(folder))
    known = {package.NAME, *shipped.files}
    if others := sorted(
        path.name for path in folder.iterdir() if is_read(path.name) and path.name not in known
    ):
        raise TiebreakError(
            f"{folder / others[0]} is not in `files` of {package.NAME}, so it would stay behind: put it there with its hash "
            f"(sha256sum {others[0]}), or move it away"
        )
    return {name: folder / name for name in (package.NAME, *sorted(shipped.files))}


def _read_card(folder: Path) -> str:
    from tiebreak.regular_file import require_regular

    require_regular(folder / CARD)
    try:
        return (folder / CARD).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise TiebreakError(
            f"{folder} has no {CARD}, the card of a model: name the folder `model` that `tiebreak run` prints at its "
            "end, or write one"
        ) from None
    except UnicodeDecodeError:
        raise TiebreakError(f"{folder / CARD}, the model's card, is not UTF-8; write it anew") from None


def _run(where: Path, folder: Path, overrides: Sequence[str]) -> Workspace | None:
    """The run that made a model folder; None if its recipe is not here, or has changed since."""
    from tiebreak.judge import package

    path = recipe_at(where) or package.recipe_of(folder)
    if path is None:
        return None
    work = Workspace(path, tuple(overrides))
    try:
        made = evaluation_folder(work) / "model"
    except TiebreakError:
        return None
    return work if made.resolve() == folder.resolve() else None


def _metadata(work: Workspace | None) -> dict[str, Any]:
    """The hub's model and data sets that a run's judge was made from; nothing on folders and files."""
    if work is None:
        return {}
    base, data = work.recipe.models.student.base, work.recipe.data
    metadata: dict[str, Any] = {}
    if hub.is_id(base) and not (work.root / base).exists():
        metadata["base_model"] = hub.split_location(base)[0]
    named = [parse_location(Path(place)) for place in (*data.votes, *data.extra, *data.preferences)]
    if datasets := sorted({source.name for source in named if source}):
        metadata["datasets"] = datasets
    return metadata


def _base(api: "HfApi", base: str) -> dict[str, str]:
    """The base and its license, as its card says; nothing where the hub has no such model that the asker may see."""
    from huggingface_hub.errors import RepositoryNotFoundError

    from tiebreak.evaluate.model_card import LICENSE

    try:
        card = api.model_info(base).card_data
    except RepositoryNotFoundError:
        return {}
    said = {key: card.get(key) for key in LICENSE} if card else {}
    return {
        "base_model": base,
        "base_model_relation": "finetune",
        **{key: value for key, value in said.items() if value},
    }


def _announce(files: Mapping[str, Path], card: str, repo: str) -> None:
    """Say what is about to be sent, and what the card says of where it comes from."""
    from tiebreak.evaluate.model_card import metadata_of

    sizes = {CARD: len(card.encode())} | {name: path.stat().st_size for name, path in files.items()}
    said = metadata_of(card)
    known = [f"{key} {said.get(key) or 'not known'}" for key in ("license", "base_model", "datasets")]
    terminal.note(
        f"to {repo}, {sum(sizes.values()) / 2**20:,.1f} MiB:",
        *(f"  {name}: {size:,} bytes" for name, size in sizes.items()),
        f"  the card says: {', '.join(known)}",
    )


def _commit(api: "HfApi", repo: str, files: Mapping[str, Path], card: str, private: bool) -> Pushed:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    info = api.model_info(repo)
    there = {file.rfilename for file in info.siblings or ()}
    _require_place(info, there, private)
    operations: list[Any] = [CommitOperationAdd(CARD, card.encode())]
    operations += [CommitOperationAdd(name, path) for name, path in files.items()]
    operations += [CommitOperationDelete(name) for name in sorted(_outdated(there, files))]
    done = api.create_commit(repo, operations, commit_message="Push by tiebreak", parent_commit=info.sha)
    return Pushed(f"{api.endpoint}/{repo}", done.oid, bool(info.private), done.oid != info.sha)


def _require_place(info: "ModelInfo", there: set[str], private: bool) -> None:
    """Raise TiebreakError for a repository that holds another kind of model, or is public where it should be private."""
    from tiebreak.judge import package
    from tiebreak.judge.location import is_read

    if private and not info.private:
        raise TiebreakError(
            f"{info.id} is there already, and public; nothing was sent: make it private in its settings, or name another"
        )
    if package.NAME not in there and any("/" not in name and is_read(name) for name in there):
        raise TiebreakError(
            f"{info.id} holds a model that tiebreak has not made; nothing was sent: name another repository"
        )


def _outdated(there: set[str], files: Mapping[str, Path]) -> set[str]:
    """Files of the model that was there before, such as further shards, beside which the new one would be misread."""
    from tiebreak.judge.location import is_read

    return {name for name in there if "/" not in name and is_read(name)} - files.keys()
