"""The Hugging Face hub: commits of models and data sets, downloads, and the local cache.

A commit in the local cache has priority over the hub's current one, so that neither model nor data change during a
run; to update, name a revision. With HF_HUB_OFFLINE=1 only the cache is used.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiebreak import json_files
from tiebreak.errors import TiebreakError
from tiebreak.model import gguf, hub_errors
from tiebreak.model.hub_errors import Kind as Kind
from tiebreak.output import write_atomically
from tiebreak.regular_file import require_regular

if TYPE_CHECKING:
    import httpx
    from transformers import PreTrainedTokenizerBase

GGUF = ".gguf"
INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_config.json"
_WEIGHTS = "*.safetensors"
_SECONDS_TO_COMMIT = 300
PATTERNS = ["*.json", _WEIGHTS, "*.model", "*.txt", "*.jinja"]


def is_id(location: str) -> bool:
    """True if this may be a hub id, `owner/name`, or a GGUF file there, `owner/name/file.gguf`."""
    repo, _ = split_location(location)
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(?<!\.gguf)", repo) is not None


def split_location(location: str) -> tuple[str, str | None]:
    """The repository on the hub, and the GGUF file in it if one is named."""
    found = re.fullmatch(r"([^/]+/[^/]+)/(.+\.gguf)", location)
    return (found[1], found[2]) if found else (location, None)


def _revision(location: str, revision: str | None) -> str:
    """The name of a revision, by default main. Raises TiebreakError for a path, which would be read."""
    wanted = revision or "main"
    if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)*", wanted):
        raise TiebreakError(f"revision {wanted!r} of {location} is no branch, tag or commit of the hub")
    return wanted


def commit(location: str, revision: str | None = None, kind: Kind = "model") -> str:
    """The full commit hash of a revision of a model or data set (default: its main branch).

    The hub's answer is stored in the cache and used from then on, offline too.
    Raises TiebreakError if it is gated, unknown, or out of reach.
    """
    wanted = _revision(location, revision)
    if _is_commit(wanted):
        return wanted
    from huggingface_hub import HfApi

    repo, _ = split_location(location)
    home = _cache_folder(repo, kind)
    if cached := _cached_commit(home, wanted):
        return cached
    with _readable_errors(repo, wanted, kind):
        found = _require_commit(HfApi().repo_info(repo, revision=wanted, repo_type=kind).sha, repo)
    with suppress(OSError):  # the cache may be read-only
        _write_ref(home / "refs" / wanted, found)
    return found


def download(location: str, revision: str | None = None, weights: bool = True) -> Path:
    """Download a model unless it is cached, and return its folder of config, safetensors and tokenizer, or its GGUF file.

    weights: False for the other files of a folder alone. Raises TiebreakError if the model is gated, unknown, or out of
    reach.
    """
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download

    repo, file = split_location(location)
    found = commit(repo, revision)
    with _readable_errors(repo, revision or "main", file=file):
        if file:
            if not cached(location, found):  # asks once; for a file the client would ask six times, in 23 s
                HfApi().repo_info(repo, revision=found)
            return Path(hf_hub_download(repo, file, revision=found))
        patterns = [pattern for pattern in PATTERNS if weights or pattern != _WEIGHTS]
        folder = snapshot_download(repo, revision=found, allow_patterns=patterns, ignore_patterns=["*/*"])
    _require_same(Path(folder).name, found, repo)  # it goes by the commit that the hub answers with
    return Path(folder)


def download_files(repo: str, found: str, names: Sequence[str]) -> Path:
    """Download these files of a commit of a model unless they are cached, and return their folder.

    Raises TiebreakError as `download` does, and where the commit has no such file.
    """
    from huggingface_hub import HfApi, hf_hub_download

    folder = _cache_folder(repo) / "snapshots" / found
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        with _readable_errors(repo, found):
            _require_same(
                HfApi().repo_info(repo, revision=found).sha, found, repo
            )  # asks once, as in `download`
    for name in missing:
        with _readable_errors(repo, found, file=name):
            _require_same(Path(hf_hub_download(repo, name, revision=found)).parent.name, found, repo)
    return folder


def download_size_and_config(
    folder_or_file: Path | None, location: str, revision: str | None = None
) -> tuple[int, dict[str, Any]]:
    """The bytes of a model still to be downloaded, and its config.json, which is empty for a GGUF file on the hub.

    From its folder or file, else from the cache, else from the hub: then it raises as `download` does.
    """
    folder = folder_or_file or cached(location, revision)
    if folder is None:
        return hub_size_and_config(location, revision)
    if folder.suffix == GGUF and folder.is_file():
        return 0, gguf.config(folder)
    return 0, json_files.read_object(folder / "config.json", gguf.AGAIN)


def tokenizer(location: str) -> "PreTrainedTokenizerBase":
    """The tokenizer of a model folder, GGUF file or hub id. Raises TiebreakError if there is none to be had."""
    from tiebreak.model.decoders import AutoTokenizer

    is_file = location.endswith(GGUF) and Path(location).is_file()
    is_here = is_file or Path(location).is_dir()
    if not is_here and not is_id(location):
        raise TiebreakError(f"no model folder at {location}, and it is no hub id (OWNER/NAME)")
    if is_file or split_location(location)[1]:
        return gguf.tokenizer(Path(location) if is_file else download(location))
    for file in sorted(Path(location).glob("*.*")) if is_here else ():
        require_regular(file, gguf.AGAIN)
    revision = "main" if is_here else commit(location)  # raises at once if the hub is out of reach
    try:
        loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            location, revision=revision, trust_remote_code=False
        )
    except Exception as error:  # transformers' classes raise whatever they stumble over
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise TiebreakError(f"no tokenizer in {location!r}, a model folder or hub id: {reason}") from None
    return loaded


def _is_commit(text: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{40}", text) is not None


def _require_commit(found: str | None, repo: str) -> str:
    """What the hub names as a commit, if it is one: it becomes a path in the cache. Raises TiebreakError if not."""
    if found is None or not _is_commit(found):
        raise hub_errors.no_commit(repo, found)
    return found


def _require_same(answered: str | None, asked: str, repo: str) -> None:
    """Raise TiebreakError if the hub answers with another commit than the one that was asked for."""
    if answered != asked:
        raise hub_errors.no_commit(repo, answered)


def _cached_commit(home: Path, revision: str) -> str | None:
    """The commit of a revision in a cache folder; None if the cache has none. Raises TiebreakError for a damaged one."""
    ref = home / "refs" / revision
    if not ref.is_file():
        return None
    found = ref.read_text(encoding="utf-8", errors="replace").strip()
    if not _is_commit(found):
        raise TiebreakError(f"{ref} is damaged: it holds {found!r:.100}, no commit of the hub; delete it")
    return found


def _write_ref(ref: Path, found: str) -> None:
    """Store the commit of a revision in the cache, which the hub's client does not when it is given a commit."""
    ref.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(ref, found)


def _cache_folder(repo: str, kind: Kind = "model") -> Path:
    """The folder of a model or data set in the local cache."""
    from huggingface_hub.file_download import repo_folder_name

    return cache() / repo_folder_name(repo_id=repo, repo_type=kind)


def cached(location: str, revision: str | None = None) -> Path | None:
    """The local folder, or GGUF file, of a model that is completely in the cache, without network; None if not."""
    repo, file = split_location(location)
    home = _cache_folder(repo)
    wanted = _revision(location, revision)
    name = _cached_commit(home, wanted) or wanted
    folder = home / "snapshots" / name
    if file:
        return folder / file if (folder / file).is_file() else None
    return folder if folder.is_dir() and missing_file(folder) is None else None


def cache() -> Path:
    """The folder of the local cache of models and of commits of data sets."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def missing_file(folder: Path) -> str | None:
    """The first file missing from a model folder, None if it is complete. Raises as `json_files.read_object` does."""
    if not (folder / "config.json").is_file():
        return "config.json"
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        return "tokenizer.json"
    if names := sorted(set(shards(folder).values())):
        return next((name for name in names if not (folder / name).is_file()), None)
    return None if any(folder.glob("*.safetensors")) else "model.safetensors"


def shards(folder: Path, mend: str = gguf.AGAIN) -> dict[str, str]:
    """The file of each tensor, by the folder's index; none where it has no index. Raises as `json_files.read_object` does."""
    index = folder / INDEX
    if not index.is_file():
        return {}
    found = json_files.read_object(index, mend).get("weight_map")
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found.values()):
        raise TiebreakError(f"{index} is damaged: it has no weight_map of tensors to files; {mend}")
    if outside := sorted(name for name in found.values() if Path(name).name != name or name == ".."):
        raise TiebreakError(f"{index} names {outside[0]!r}, which is no file of its folder; {mend}")
    return found


def is_adapter(place: str) -> TiebreakError:
    """The refusal of a model folder or repository with an adapter, which transformers would apply unasked."""
    return TiebreakError(
        f"{place} is an adapter of a model, as its {ADAPTER} says, and adapters start from plain weights: merge the adapter "
        f"first, name the model that it was made of, or remove {ADAPTER}"
    )


def hub_size_and_config(location: str, revision: str | None = None) -> tuple[int, dict[str, Any]]:
    """The bytes of a model on the hub, and its config.json, which is empty for a GGUF file.

    Checks access to the files themselves, because a gated model's page is public. Raises as `download` does.
    """
    from huggingface_hub import HfApi, hf_hub_download

    repo, file = split_location(location)
    with _readable_errors(repo, revision or "main"):
        HfApi().auth_check(repo)
        info = HfApi().model_info(repo, revision=revision or "main", files_metadata=True)
        _require_commit(info.sha, repo)
        if file:
            sizes = {entry.rfilename: entry.size or 0 for entry in info.siblings or ()}
            if file not in sizes:
                raise hub_errors.no_file(repo, file)
            return sizes[file], {}
        files = [file for file in info.siblings or () if "/" not in file.rfilename]
        if any(file.rfilename == ADAPTER for file in files):
            raise is_adapter(repo)
        wanted = (f for f in files if any(fnmatch(f.rfilename, pattern) for pattern in PATTERNS))
        config = Path(hf_hub_download(repo, "config.json", revision=info.sha))
    return sum(file.size or 0 for file in wanted), json_files.read_object(config, gguf.AGAIN)


def writing(repo: str) -> AbstractContextManager[None]:
    """What is sent to a model's repository; an exception of the hub's client becomes a TiebreakError."""
    return _in_words(lambda error: hub_errors.not_pushed(error, repo))


def _readable_errors(
    repo: str, revision: str, kind: Kind = "model", file: str | None = None
) -> AbstractContextManager[None]:
    return _in_words(lambda error: hub_errors.explained(error, repo, revision, kind, file))


@contextmanager
def _in_words(explain: Callable[[Exception], TiebreakError]) -> Iterator[None]:
    """Requests to the hub: an exception of its client is explained."""
    _limit_waiting()
    try:
        yield
    except TiebreakError:
        raise
    except Exception as error:
        raise explain(error) from None


def _limit_waiting() -> None:
    """Have the hub's client give up where it would wait for ever, such as for lists of files: after its download timeout,
    or, for what it sends, _SECONDS_TO_COMMIT.
    """
    from huggingface_hub import get_session

    session = get_session()
    hooks = session.event_hooks
    if _set_timeout not in hooks["request"]:
        session.event_hooks = {**hooks, "request": [*hooks["request"], _set_timeout]}


def _set_timeout(request: "httpx.Request") -> None:
    from huggingface_hub import constants

    seconds = constants.HF_HUB_DOWNLOAD_TIMEOUT
    answer = seconds if request.method in ("GET", "HEAD") else max(seconds, _SECONDS_TO_COMMIT)
    limits = {"connect": seconds, "read": answer, "write": answer}
    given = {
        name: limit for name, limit in request.extensions.get("timeout", {}).items() if limit is not None
    }
    request.extensions["timeout"] = limits | given
