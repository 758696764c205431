"""A hub on this machine that speaks the protocol of the real client: making a repository, files sent as they are or by LFS,
commits, their files and who may read them. It checks what a hub checks, and keeps what it was asked.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

TOKEN = "hf_AbCdEfGhIjKlMnOpQrStUvWxYz01234567"
OWNER = "ada"
"""Who has the token."""
NO_FILES: Mapping[str, bytes] = {}


@dataclass
class Repository:
    """Commits, oldest first: their files' contents."""

    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    revisions: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes]) -> str:
        number = hashlib.sha1(f"{len(self.commits)} {sorted(files)}".encode()).hexdigest()
        self.commits[number] = files
        self.revisions["main"] = number
        return number

    def find(self, revision: str) -> str | None:
        return self.revisions.get(revision, revision if revision in self.commits else None)

    @property
    def files(self) -> dict[str, bytes]:
        """Of the last commit; may be changed, as a disk that fails does."""
        return self.commits[self.revisions["main"]]


@dataclass
class Refusal:
    """An answer to requests whose method and path match."""

    pattern: str
    status: int
    body: bytes = b'{"error": "no"}'


class FakeHub(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.refusal: Refusal | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def make(self, name: str, files: Mapping[str, bytes] = NO_FILES, private: bool = False) -> Repository:
        """A repository, whose first commit has .gitattributes as that of a hub, and these files."""
        self.repositories[name] = Repository(private)
        self.repositories[name].commit({".gitattributes": b"*.safetensors filter=lfs\n", **files})
        return self.repositories[name]

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is none."""


class _Handler(BaseHTTPRequestHandler):
    server: FakeHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._route()

    do_HEAD = do_POST = do_PUT = do_GET

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _route(self) -> None:
        self.content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = unquote(urlsplit(self.path).path)
        asked = f"{self.command} {path}"
        self.server.asked.append(asked)
        refusal = self.server.refusal
        if refusal and re.search(refusal.pattern, asked):
            self._answer(refusal.status, refusal.body)
            return
        for pattern, answer in _ROUTES.items():
            if found := re.fullmatch(pattern, asked):
                answer(self, *found.groups())
                return
        self._answer(404, {"error": f"no such page: {asked}"})

    def _answer(self, status: int, body: object = None, **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    @property
    def _known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _repository(self, name: str) -> Repository | None:
        """A repository that the asker may read; otherwise the answer is given, which does not say whether there is one."""
        found = self.server.repositories.get(name)
        if found is not None and (self._known or not found.private):
            return found
        self._answer(404 if self._known else 401, {"error": "not found"}, X_Error_Code="RepoNotFound")
        return None

    def _may_write(self, owner: str) -> bool:
        if not self._known:
            self._answer(401, {"error": "Invalid username or password."})
        elif owner != OWNER:
            self._answer(403, {"error": f"You don't have the rights to create a model under {owner}"})
        return self._known and owner == OWNER

    def _create(self) -> None:
        asked = json.loads(self.content)
        name = f"{asked['organization']}/{asked['name']}"
        if not self._may_write(asked["organization"]):
            return
        if name in self.server.repositories:
            problem = "You already created this model repo"
            self._answer(409, {"error": problem, "url": f"{self.server.url}/{name}"})
            return
        self.server.make(name, private=asked.get("visibility") == "private")
        self._answer(200, {"url": f"{self.server.url}/{name}", "name": name})

    def _info(self, name: str, revision: str | None) -> None:
        repository = self._repository(name)
        if repository is None:
            return
        found = repository.find(revision or "main")
        if found is None:
            self._answer(404, {"error": "Invalid rev id"}, X_Error_Code="RevisionNotFound")
            return
        files = repository.commits[found]
        card = files.get("README.md", b"").decode().split("---")
        self._answer(
            200,
            {
                "id": name, "sha": found, "private": repository.private, "tags": [], "downloads": 0, "likes": 0,
                "siblings": [{"rfilename": file} for file in files],
                "cardData": yaml.safe_load(card[1]) if len(card) > 2 else None,
            },
        )  # fmt: skip

    def _validate(self) -> None:
        """What a hub says of a card's metadata, in part: https://huggingface.co/docs/hub/model-cards."""
        front = yaml.safe_load(json.loads(self.content)["content"].split("---")[1])
        errors = [
            f'"{key}" must be {kind.__name__}'
            for key, kind in _KINDS.items()
            if key in front and not isinstance(front[key], kind)
        ]
        if front.get("license", "other") not in ("apache-2.0", "mit", "gemma", "other"):
            errors.append('"license" must be one of [apache-2.0, mit, gemma, other]')
        for model in front.get("model-index", ()):
            for result in model["results"]:
                if not all(result["task"]["type"] and result["dataset"][key] for key in ("type", "name")):
                    errors.append('"model-index" is not valid')
        problems = [{"message": text} for text in errors]
        self._answer(400 if errors else 200, {"errors": problems, "warnings": []})

    def _preupload(self, name: str, _: str) -> None:
        repository = self._repository(name)
        if repository is None or not self._may_write(name.partition("/")[0]):
            return
        files = [
            {
                "path": path,
                "uploadMode": "lfs" if _is_large(path) else "regular",
                "shouldIgnore": False,
                "oid": _oid(path, repository.files[path]) if path in repository.files else None,
            }
            for path in (file["path"] for file in json.loads(self.content)["files"])
        ]
        self._answer(200, {"files": files})

    def _batch(self, _: str) -> None:
        objects = json.loads(self.content)["objects"]
        for item in objects:
            if item["oid"] not in self.server.objects:
                item["actions"] = {"upload": {"href": f"{self.server.url}/lfs/{item['oid']}"}}
        self._answer(200, {"transfer": "basic", "objects": objects})

    def _upload(self, oid: str) -> None:
        matches = hashlib.sha256(self.content).hexdigest() == oid
        if matches:
            self.server.objects[oid] = self.content
        self._answer(200 if matches else 400, {})

    def _commit(self, name: str, revision: str) -> None:
        repository = self._repository(name)
        if repository is None or not self._may_write(name.partition("/")[0]):
            return
        (_, header), *operations = (
            (line["key"], line["value"]) for line in map(json.loads, self.content.splitlines())
        )
        if header.get("parentCommit") not in (None, repository.find(revision)):
            self._answer(412, {"error": "A commit has happened since. Please refresh and try again."})
            return
        files = dict(repository.files)
        for kind, value in operations:
            match kind:
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.server.objects[value["oid"]]
                case "deletedFile":
                    del files[value["path"]]
        made = repository.commit(files)
        self._answer(200, {"commitOid": made, "commitUrl": f"{self.server.url}/{name}/commit/{made}"})

    def _resolve(self, name: str, revision: str, file: str) -> None:
        repository = self._repository(name)
        if repository is None:
            return
        found = repository.find(revision)
        content = repository.commits[found].get(file) if found else None
        if found is None or content is None:
            code = "EntryNotFound" if found else "RevisionNotFound"
            self._answer(404, {"error": "not found"}, X_Error_Code=code, X_Repo_Commit=found or "")
            return
        etag = hashlib.sha256(content).hexdigest()
        self._answer(200, content, ETag=f'"{etag}"', X_Repo_Commit=found)


def _is_large(path: str) -> bool:
    return path.endswith(".safetensors")


def _oid(path: str, content: bytes) -> str:
    """Its SHA-256 of a large file, else what git calls a file of this content."""
    if _is_large(path):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


_KINDS = {
    "base_model": str,
    "datasets": list,
    "license": str,
    "pipeline_tag": str,
    "tags": list,
    "library_name": str,
}
_NAME = r"([\w.-]+/[\w.-]+)"
_ROUTES: dict[str, Callable[..., None]] = {
    r"POST /api/repos/create": _Handler._create,
    r"POST /api/validate-yaml": _Handler._validate,
    rf"GET /api/models/{_NAME}(?:/revision/(.+))?": _Handler._info,
    rf"POST /api/models/{_NAME}/preupload/(.+)": _Handler._preupload,
    rf"POST /api/models/{_NAME}/commit/(.+)": _Handler._commit,
    rf"POST /{_NAME}\.git/info/lfs/objects/batch": _Handler._batch,
    r"PUT /lfs/(\w+)": _Handler._upload,
    rf"(?:GET|HEAD) /{_NAME}/resolve/([^/]+)/(.+)": _Handler._resolve,
}  # fmt: skip


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """A hub, for as long as a test needs it."""
    server = FakeHub()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def use(url: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this process's client ask a hub with the token of its owner, and use this cache."""
    constants = "huggingface_hub.constants"
    point_to(url, monkeypatch)
    monkeypatch.setattr(f"{constants}.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(f"{constants}.HF_HUB_DISABLE_XET", True)  # whose storage has a protocol of its own
    monkeypatch.setattr(f"{constants}.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(f"{constants}.HF_TOKEN_PATH", str(cache / "token"))
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    monkeypatch.setenv("HF_TOKEN", TOKEN)


def point_to(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
