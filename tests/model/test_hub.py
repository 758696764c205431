"""Tests of the hub without a network: the cache, and the errors of downloads."""

from pathlib import Path
from shutil import copyfile
from types import SimpleNamespace

import httpx
import pytest
from huggingface_hub import errors
from tiny_models import base

from tiebreak.errors import TiebreakError
from tiebreak.model import hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def put(cache: Path) -> Path:
    """A model in the cache layout of huggingface_hub."""
    model = cache / "models--owner--name"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text(COMMIT)
    (model / "snapshots" / COMMIT).mkdir(parents=True)
    (model / "snapshots" / COMMIT / "config.json").write_text("{}")
    return model / "snapshots" / COMMIT


@pytest.mark.parametrize(
    ("text", "is_id"),
    [
        ("owner/name", True),
        ("google/gemma-2-9b-it", True),
        ("name", False),
        ("a/b/c", False),
        ("../x/y", False),
        ("owner/name/model.Q4_0.gguf", True),
        ("owner/name/quantised/model.gguf", True),
        ("models/model.gguf", False),
        ("../x/model.gguf", False),
    ],
)
def test_valid_hub_ids(text: str, is_id: bool) -> None:
    assert hub.is_id(text) is is_id
    assert not hub.is_id("./" + text)


def test_a_full_commit_is_itself(cache: Path) -> None:
    assert hub.commit("owner/name", COMMIT) == COMMIT


def test_the_cached_commit_wins(cache: Path) -> None:
    put(cache)
    assert hub.commit("owner/name") == COMMIT


def test_offline_without_a_cached_model_the_error_names_the_command(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(TiebreakError, match="hf download owner/name"):
        hub.commit("owner/name")


def refuse(monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    """Make every request to the hub fail with this error."""

    def repo_info(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", repo_info)


def _refused(kind: type[errors.HfHubHTTPError]) -> Exception:
    request = httpx.Request("GET", "https://hub.invalid")
    return kind("refused", response=httpx.Response(403, request=request))


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (_refused(errors.GatedRepoError), "is gated: accept its terms at https://huggingface.co/owner/name"),
        (_refused(errors.RepositoryNotFoundError), "none of that name on the hub"),
        (_refused(errors.RevisionNotFoundError), "has no revision 'v9'"),
        (httpx.ConnectError("no route"), "the hub is out of reach"),
    ],
)
def test_every_error_of_the_hub_has_a_remedy(
    cache: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception, message: str
) -> None:
    refuse(monkeypatch, failure)
    with pytest.raises(TiebreakError, match=message):
        hub.commit("owner/name", "v9")


def test_download_asks_for_the_commit_and_only_for_what_is_read(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, object] = {}

    def download(repo: str, **options: object) -> str:
        asked.update(options, repo=repo)
        return str(folder)

    folder = put(cache)
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert hub.download("owner/name") == folder
    assert (asked["repo"], asked["revision"]) == ("owner/name", COMMIT)
    assert not any(pattern.endswith((".bin", ".pt", "*")) for pattern in hub.PATTERNS)


def test_a_downloaded_model_is_found_offline(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's client stores a commit by its hash only, so `main` would be unknown to an offline job."""
    info = SimpleNamespace(sha=COMMIT)
    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", lambda *_, **__: info)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(cache / COMMIT))
    hub.download("owner/name")
    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", lambda *_, **__: pytest.fail("asked the hub"))
    assert hub.commit("owner/name") == COMMIT


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_the_first_commit_of_a_revision_is_kept(
    cache: Path, monkeypatch: pytest.MonkeyPatch, kind: hub.Kind
) -> None:
    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", lambda *_, **__: SimpleNamespace(sha=COMMIT))
    assert hub.commit("owner/name", kind=kind) == COMMIT
    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", lambda *_, **__: SimpleNamespace(sha="f" * 40))
    assert hub.commit("owner/name", kind=kind) == COMMIT
    assert hub.commit("owner/name", "v2", kind) == "f" * 40
    noted = {ref.name for ref in cache.glob(f"{kind}s--owner--name/refs/*")}
    assert noted == {"main", "v2"}


def test_a_cache_that_cannot_be_written_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", lambda *_, **__: SimpleNamespace(sha=COMMIT))
    assert hub.commit("owner/name", kind="dataset") == COMMIT


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (_refused(errors.GatedRepoError), "https://huggingface.co/datasets/owner/votes"),
        (httpx.ConnectError("no route"), "where there is internet, run: tiebreak run RECIPE --steps ingest"),
    ],
)
def test_a_refused_data_set_names_its_own_page_and_command(
    cache: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception, message: str
) -> None:
    refuse(monkeypatch, failure)
    with pytest.raises(TiebreakError, match=message):
        hub.commit("owner/votes", kind="dataset")


def test_the_cache_has_a_model_once_its_weights_are_there(cache: Path) -> None:
    assert hub.cached("owner/name") is None
    folder = put(cache)
    assert hub.cached("owner/name") is None
    (folder / "tokenizer.json").write_text("{}")
    assert hub.missing_file(folder) == "model.safetensors"
    (folder / "model.safetensors").write_bytes(b"")
    assert hub.cached("owner/name") == hub.cached("owner/name", COMMIT) == folder
    assert hub.cached("owner/name", "v2") is None


def test_a_tokenizer_comes_from_a_folder_or_from_the_cached_commit(cache: Path) -> None:
    folder = base("llama")
    assert hub.tokenizer(str(folder))("why").input_ids
    snapshot = put(cache)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        copyfile(folder / name, snapshot / name)
    assert hub.tokenizer("owner/name")("why").input_ids == hub.tokenizer(str(folder))("why").input_ids


def test_no_tokenizer_is_one_line(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (tmp_path / "empty").mkdir()
    for location, message in (
        ("nowhere", "no model folder at nowhere"),
        ("owner/name", "the hub is out of reach"),
        (str(tmp_path / "empty"), "no tokenizer in"),
    ):
        with pytest.raises(TiebreakError, match=message):
            hub.tokenizer(location)


def test_a_gguf_file_of_the_hub_is_looked_up_by_itself(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    location, folder = "owner/name/deep/model.gguf", put(cache)
    assert hub.commit(location) == COMMIT
    assert hub.cached(location) is None
    siblings = [SimpleNamespace(rfilename=name, size=7) for name in ("deep/model.gguf", "model.safetensors")]
    monkeypatch.setattr("huggingface_hub.HfApi.auth_check", lambda *_: None)
    monkeypatch.setattr(
        "huggingface_hub.HfApi.model_info", lambda *_, **__: SimpleNamespace(siblings=siblings, sha=COMMIT)
    )
    assert hub.download_size_and_config(None, location) == (7, {})
    with pytest.raises(TiebreakError, match=r"owner/name has no file 'other\.gguf' on the hub"):
        hub.download_size_and_config(None, "owner/name/other.gguf")
    (folder / "deep").mkdir()
    (folder / "deep" / "model.gguf").touch()
    assert hub.cached(location) == hub.download(location) == folder / "deep" / "model.gguf"


def test_a_gguf_file_that_the_hub_does_not_have_is_named(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(cache)

    def missing(*_: object, **__: object) -> None:
        raise _refused(errors.RemoteEntryNotFoundError)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", missing)
    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", lambda *_, **__: SimpleNamespace(sha=COMMIT))
    with pytest.raises(TiebreakError, match=r"owner/name has no file 'model.gguf' on the hub: see https://"):
        hub.download("owner/name/model.gguf")


def test_offline_without_a_gguf_file_the_error_names_the_command(cache: Path) -> None:
    put(cache)
    with pytest.raises(
        TiebreakError, match=r"where there is internet, run: hf download owner/name model\.gguf$"
    ):
        hub.download("owner/name/model.gguf")


@pytest.mark.parametrize("revision", ["/etc/passwd", "../../secret", "a/../b", " main", "-x"])
def test_a_revision_is_a_name_and_no_path(cache: Path, revision: str) -> None:
    with pytest.raises(TiebreakError, match="is no branch, tag or commit of the hub"):
        hub.commit("owner/name", revision)
    with pytest.raises(TiebreakError, match="is no branch, tag or commit of the hub"):
        hub.cached("owner/name", revision)


NO_COMMITS = ("../../../../models/llama", "/etc", COMMIT[:12], "main", "", COMMIT + "0", COMMIT[:-1] + "/")


@pytest.mark.parametrize("found", [None, *NO_COMMITS])
def test_what_the_hub_calls_a_commit_is_one(
    cache: Path, monkeypatch: pytest.MonkeyPatch, found: str | None
) -> None:
    """It becomes a path: nothing is downloaded or stored before."""
    info = SimpleNamespace(sha=found, siblings=[])
    monkeypatch.setattr("huggingface_hub.HfApi.auth_check", lambda *_: None)
    for name in ("repo_info", "model_info"):
        monkeypatch.setattr(f"huggingface_hub.HfApi.{name}", lambda *_, **__: info)
    for name in ("snapshot_download", "hf_hub_download"):
        monkeypatch.setattr(f"huggingface_hub.{name}", lambda *_, **__: pytest.fail("downloaded"))
    for ask in (hub.commit, hub.download, hub.hub_size_and_config, hub.tokenizer):
        with pytest.raises(TiebreakError, match=r"as the commit of owner/name, .*; correct HF_ENDPOINT"):
            ask("owner/name")
    assert not list(cache.rglob("*"))


def test_a_hub_that_downloads_another_commit_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(cache)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(cache / "../elsewhere"))
    with pytest.raises(TiebreakError, match="names 'elsewhere' as the commit of owner/name"):
        hub.download("owner/name")


@pytest.mark.parametrize("found", NO_COMMITS)
def test_a_commit_of_the_cache_is_no_path(cache: Path, found: str) -> None:
    ref = put(cache).parents[1] / "refs" / "main"
    ref.write_text(found)
    for ask in (hub.commit, hub.cached, hub.download):
        with pytest.raises(
            TiebreakError, match=r"refs/main is damaged: it holds .*, no commit of the hub; delete it"
        ):
            ask("owner/name")


def test_a_hub_that_is_out_of_reach_is_asked_once_for_a_file(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, httpx.ConnectError("refused"))
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: pytest.fail("asked again"))
    with pytest.raises(TiebreakError, match="the hub is out of reach"):
        hub.download("owner/name/model.gguf", COMMIT)


def test_an_adapter_of_the_hub_is_refused_by_its_list_of_files(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    siblings = [SimpleNamespace(rfilename=name, size=1) for name in ("adapter_config.json", "config.json")]
    info = SimpleNamespace(siblings=siblings, sha=COMMIT)
    monkeypatch.setattr("huggingface_hub.HfApi.auth_check", lambda *_, **__: None)
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: info)
    with pytest.raises(TiebreakError, match="owner/name is an adapter of a model"):
        hub.hub_size_and_config("owner/name")
