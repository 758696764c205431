"""Errors of the Hugging Face hub, for people: what it answered, and what to do about that."""

from http import HTTPStatus
from typing import Literal

from tiebreak.errors import TiebreakError

Kind = Literal["model", "dataset"]

_LOG_IN = "log in with `hf auth login` or set HF_TOKEN"


def explained(
    error: Exception, repo: str, revision: str, kind: Kind, file: str | None = None
) -> TiebreakError:
    """The error for an exception of the hub's client, which was asked for a model, data set or a file of it."""
    import httpx
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # why the client looked for a local copy
    page = f"https://huggingface.co/{'datasets/' if kind == 'dataset' else ''}{repo}"
    match error:
        case errors.GatedRepoError():
            text = f"{repo} is gated: accept its terms at {page}, then {_LOG_IN}"
        case errors.RevisionNotFoundError():
            text = f"{repo} has no revision {revision!r} on the hub"
        case errors.RepositoryNotFoundError():
            text = (
                f"no {repo!r} here, and none of that name on the hub that you may see "
                "(if it is private: `hf auth login` or HF_TOKEN)"
            )
        case errors.LocalEntryNotFoundError() | errors.OfflineModeIsEnabled() | httpx.TransportError():
            text = _out_of_reach(error, repo, kind, file)
        case errors.EntryNotFoundError():
            return no_file(repo, file or "config.json")
        case errors.HfHubHTTPError():
            text = _refused(error.response.status_code, repo, page)
        case errors.HFValidationError():
            text = f"{repo!r} is no name of the hub: {error}"
        case OSError(errno=None) if not isinstance(
            error, errors.FileMetadataError
        ):  # of Xet, the hub's store
            text = f"{repo}: the download broke off ({error}); if that happens again, HF_HUB_DISABLE_XET=1 takes another way"
        case OSError() if not isinstance(error, errors.FileMetadataError):
            raise error  # of this machine, such as a full disk
        case _:
            text = _no_hub(error, repo)
    return TiebreakError(text)


def _no_hub(error: Exception, repo: str) -> str:
    return (
        f"what {_endpoint()} answers for {repo} comes from no hub ({type(error).__name__}): a proxy or a login "
        "page of this network may stand in between; look at it in a browser, or correct HF_ENDPOINT"
    )


def not_pushed(error: Exception, repo: str) -> TiebreakError:
    """The error for an exception of the hub's client while a model was pushed, which is whole there or not at all."""
    import httpx
    from huggingface_hub import errors

    page = f"{_endpoint()}/{repo}"
    committed = f"Nothing was committed to {repo}"
    match error:
        case RuntimeError(__cause__=Exception() as cause):  # of a file that it was uploading
            return not_pushed(cause, repo)
        case errors.OfflineModeIsEnabled():
            text = "HF_HUB_OFFLINE is set, so nothing is sent to the hub: unset it"
        case httpx.TransportError():
            text = f"the hub at {_endpoint()} is out of reach ({type(error).__name__})"
            committed = f"{repo} has the whole commit or nothing of it"  # its answer may be what is lost
        case errors.HfHubHTTPError(response=response):
            text = _refused_push(response.status_code, repo, page, error.server_message or "")
            if response.is_server_error:
                committed = f"{repo} has the whole commit or nothing of it"
        case errors.HFValidationError():
            text = f"{repo!r} is no name of the hub: {error}"
        case ValueError(__cause__=errors.BadRequestError()):
            text = f"the hub does not take README.md: {error}; correct it, or the option --license"
        case OSError(errno=None):  # of Xet, the hub's store of large files
            text = (
                f"sending broke off ({error}); if that happens again, HF_HUB_DISABLE_XET=1 takes another way"
            )
        case OSError():
            raise error  # of this machine, such as a file that is gone
        case _:
            text = _no_hub(error, repo)
    return TiebreakError(f"{text}. {committed}; the same command tries again")


def no_token() -> TiebreakError:
    """The error where a login is needed, and there is none."""
    return TiebreakError(
        f"the hub takes models from those alone whom it knows: {_LOG_IN}, with leave to write"
    )


def _refused_push(status: int, repo: str, page: str, said: str) -> str:
    owner = repo.partition("/")[0]
    match status:
        case HTTPStatus.UNAUTHORIZED:
            return f"the hub does not know who pushes {repo} (401): {_LOG_IN}; a token that is set may be old"
        case HTTPStatus.FORBIDDEN | HTTPStatus.NOT_FOUND:
            return (
                f"the hub does not let you write to {repo} ({status}): {owner} has to be you or an organisation that you "
                f"write for, and the token one with leave to write, see {_endpoint()}/settings/tokens"
            )
        case HTTPStatus.CONFLICT | HTTPStatus.PRECONDITION_FAILED:
            return f"somebody else has changed {repo} meanwhile ({status}): look at {page}"
        case HTTPStatus.TOO_MANY_REQUESTS:
            return f"the hub was asked too often (429): wait some minutes before you push {repo}"
        case _ if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return f"the hub is out of order ({status}), which is its own fault: try again later"
        case _:
            return f"the hub answers {status} for {repo}" + (f": {said}" if said else "")


def no_file(repo: str, file: str) -> TiebreakError:
    """The error for a file that a repository does not have."""
    return TiebreakError(
        f"{repo} has no file {file!r} on the hub: see https://huggingface.co/{repo}/tree/main"
    )


def no_commit(repo: str, found: str | None) -> TiebreakError:
    """The error for an answer that names no commit, or another than was asked for."""
    return TiebreakError(
        f"{_endpoint()} names {found!r:.100} as the commit of {repo}, which is none or not the one asked for: it is no hub; "
        "correct HF_ENDPOINT, or download the model and name its folder"
    )


def _out_of_reach(error: Exception, repo: str, kind: Kind, file: str | None) -> str:
    import httpx

    command = f"hf download {repo} {file or ''}".rstrip()
    if kind == "dataset":
        command = "tiebreak run RECIPE --steps ingest"
    is_slow = isinstance(error, httpx.TimeoutException)
    slow = f" ({_endpoint()} is too slow; HF_HUB_DOWNLOAD_TIMEOUT=60 waits a minute)" if is_slow else ""
    return (
        f"no {repo!r} here, none in the hub's local cache, and the hub is out of reach{slow}; "
        f"where there is internet, run: {command}"
    )


def _refused(status: int, repo: str, page: str) -> str:
    """The text for a status that the client has no error of its own for."""
    match status:
        case HTTPStatus.UNAUTHORIZED:
            text = (
                f"the hub does not know who asks for {repo} (401): {_LOG_IN}; a token that is set may be old"
            )
        case HTTPStatus.FORBIDDEN:
            text = f"the hub refuses you {repo} (403): accept its terms at {page}, and let your token read it"
        case HTTPStatus.NOT_FOUND:
            text = f"the hub has no {repo} of that kind or revision (404): look at {page}"
        case HTTPStatus.TOO_MANY_REQUESTS:
            text = (
                f"the hub was asked too often (429) and does not answer for {repo}: try again in some minutes; "
                f"it allows more to those who {_LOG_IN}"
            )
        case _ if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            text = f"the hub is out of order ({status}), which is its own fault: try again later for {repo}"
        case _:
            text = f"the hub answers {status} for {repo}: look at {page}"
    return text


def _endpoint() -> str:
    from huggingface_hub import constants

    return constants.ENDPOINT
