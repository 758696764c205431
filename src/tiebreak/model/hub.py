"""Models from the Hugging Face hub: which commit a name means, and its files on this machine.

A commit that is in the local cache wins over what the hub says today, so that a model does not change in the
middle of a run; to move on, name a `revision`. With HF_HUB_OFFLINE=1 only the cache is asked.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tiebreak.errors import TiebreakError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WANTED = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]


def is_id(location: str) -> bool:
    """Could this be a hub id, `owner/name`?"""
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", location) is not None


def commit(repo: str, revision: str | None = None, kind: Literal["model", "dataset"] = "model") -> str:
    """The full commit that a revision of a model or data set means (default: its main branch).

    Raises TiebreakError if it is gated, unknown, or out of reach.
    """
    wanted = revision or "main"
    if re.fullmatch(r"[0-9a-f]{40}", wanted):
        return wanted
    from huggingface_hub import HfApi, constants
    from huggingface_hub.file_download import repo_folder_name

    cached = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type=kind) / "refs" / wanted
    if cached.is_file():
        return cached.read_text(encoding="utf-8").strip()
    with _clear_errors(repo, wanted):
        found = HfApi().repo_info(repo, revision=wanted, repo_type=kind).sha
    assert found is not None, f"the hub names no commit for {repo}"
    return found


def download(repo: str, revision: str | None = None) -> Path:
    """The local folder of a model: config, safetensors and tokenizer, fetched where the cache lacks them.

    Raises TiebreakError if the model is gated, unknown, or out of reach.
    """
    from huggingface_hub import snapshot_download

    with _clear_errors(repo, revision or "main"):
        folder = snapshot_download(
            repo, revision=commit(repo, revision), allow_patterns=WANTED, ignore_patterns=["*/*"]
        )
    return Path(folder)


def tokenizer(location: str) -> "PreTrainedTokenizerBase":
    """The tokenizer of a model folder or hub id. Raises TiebreakError if there is none to be had."""
    from transformers import AutoTokenizer

    if not Path(location).is_dir() and not is_id(location):
        raise TiebreakError(f"no model folder at {location}, and it is no hub id (OWNER/NAME)")
    try:
        loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(location)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise TiebreakError(f"no tokenizer in {location!r}, a model folder or hub id: {reason}") from None
    return loaded


@contextmanager
def _clear_errors(repo: str, revision: str) -> Iterator[None]:
    import httpx
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError:
        raise TiebreakError(
            f"{repo} is gated: accept its terms at https://huggingface.co/{repo}, "
            "then log in with `hf auth login` or set HF_TOKEN"
        ) from None
    except errors.RevisionNotFoundError:
        raise TiebreakError(f"{repo} has no revision {revision!r} on the hub") from None
    except errors.RepositoryNotFoundError:
        raise TiebreakError(
            f"no {repo!r} here, and none of that name on the hub that you may see "
            "(if it is private: `hf auth login` or HF_TOKEN)"
        ) from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, httpx.TransportError):
        raise TiebreakError(
            f"no {repo!r} here, none in the hub's local cache, and the hub is out of reach; "
            f"where there is internet, run: hf download {repo}"
        ) from None
