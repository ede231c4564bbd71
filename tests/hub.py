"""A local Hub for the tests: the requests of the real client, answered with the standard library."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

OWNER = "ann"
TOKEN = "hf_ann_may_write"
READ_TOKEN = "hf_guest_may_read"


def _commit_hash(number: int) -> str:
    return hashlib.sha1(str(number).encode()).hexdigest()


@dataclass
class Repo:
    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, str]] = field(default_factory=dict)  # commit -> path -> sha256
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit_at(self, revision: str) -> str | None:
        revision = revision.removeprefix("refs/heads/")
        commit = self.branches.get(revision) or self.tags.get(revision)
        return commit or (revision if revision in self.commits else None)


@dataclass(frozen=True)
class Fault:
    """Another answer to some requests.

    Attributes:
        request: A pattern of ``"METHOD /path"``.
        answer: Gets the handler, status, body and headers of the right answer, and answers or hangs up.
        early: Whether it comes before the server has done anything; else after that.
    """

    request: str
    answer: Callable[[_Handler, int, bytes, dict[str, str]], None]
    early: bool = False


class LocalHub:
    """A local server that answers like the Hub; a context manager.

    Attributes:
        mode: How files are uploaded: ``"lfs"`` or ``"regular"``.
        faults: What goes wrong: ``"down"`` (status 500 for all requests), ``"soon"`` (that, after the next model info),
            ``"commit"`` (status 500 for commits), ``"cut"`` (the connection breaks during an upload), ``"corrupt"``
            (other bytes of the right number).
        fault: Another answer to some requests.
        hits: How often it was given.
        requests: Every request as ``"GET /path"``.
        headers: Their headers.
    """

    def __init__(self, mode: str = "lfs") -> None:
        self.mode, self.faults, self.requests = mode, set[str](), list[str]()
        self.fault: Fault | None = None
        self.hits, self.headers = 0, list[dict[str, str]]()
        self.repos: dict[str, Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self._server = _Server(("127.0.0.1", 0), type("Bound", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> LocalHub:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def stop(self) -> None:
        self.faults.add("gone")  # for connections that are still open
        if self._server.fileno() != -1:
            self._server.shutdown()
            self._server.server_close()

    def add(self, id_: str, files: dict[str, bytes | None], branch: str = "main", message: str = "") -> str:
        """Adds a commit: files with their content, None to remove one; returns its hash."""
        repo = self.repos.setdefault(id_, Repo())
        tree = dict(repo.commits.get(repo.branches.get(branch, ""), {}))
        for path, content in files.items():
            if content is None:
                tree.pop(path, None)
            else:
                tree[path] = self.store(content)
        commit = _commit_hash(sum(len(r.commits) for r in self.repos.values()))
        repo.commits[commit] = tree
        repo.branches[branch] = commit
        repo.messages.append(message)
        return commit

    def store(self, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        self.blobs[digest] = content
        return digest

    def read(self, id_: str, path: str, revision: str = "main") -> bytes:
        repo = self.repos[id_]
        return self.blobs[repo.commits[repo.commit_at(revision) or ""][path]]


def _git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # the client has hung up
            super().handle_error(request, client_address)


class _Stop(Exception):
    """The end of a request, raised when the response is sent."""


class _Handler(BaseHTTPRequestHandler):
    hub: LocalHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self._respond()

    do_HEAD = do_POST = do_PUT = do_GET

    # --- responses ---

    def _send(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self._fail(False, status, body, headers or {})
        self.answer(status, body, headers)

    def _fail(self, early: bool, status: int = 200, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        fault = self.hub.fault
        if fault and fault.early == early and re.search(fault.request, f"{self.command} {unquote(self.path)}"):
            self.hub.hits += 1
            fault.answer(self, status, body, headers or {})

    def wait(self, seconds: float) -> None:
        threading.Event().wait(seconds)

    def hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)
        raise _Stop

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        raise _Stop

    def _json(self, value: Any, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _error(self, status: int, code: str, text: str = "") -> None:
        body = json.dumps({"error": text or code}).encode()
        self._send(status, body, {"X-Error-Code": code, "X-Error-Message": text or code})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _respond(self) -> None:
        raw = urlsplit(self.path).path
        path = unquote(re.sub(r"refs(?:%2F|/)pr(?:%2F|/)(\d+)", r"refs!pr!\1", raw))
        self.hub.requests.append(f"{self.command} {path}")
        self.hub.headers.append({name.lower(): value for name, value in self.headers.items()})
        cut = "cut" in self.hub.faults and self.command == "PUT"
        if cut or "gone" in self.hub.faults:
            self.rfile.read(100 * cut)
            self.close_connection = True
            self.connection.close()
            return
        body = self._body()
        try:
            self._fail(True)
            if "down" in self.hub.faults:
                self._error(500, "", "the database is down")
            for pattern, handle in self.routes:
                if match := re.fullmatch(pattern, f"{self.command} {path}"):
                    groups = {name: value.replace("!", "/") for name, value in match.groupdict().items()}
                    handle(self, body, **groups)
            self._error(404, "EntryNotFound", f"no such address: {path}")
        except _Stop:
            pass
        except (BrokenPipeError, ConnectionResetError):
            pass

    # --- permissions ---

    @property
    def _token(self) -> str:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def _repo(self, id: str, write: bool = False) -> Repo:
        if self._token not in ("", TOKEN, READ_TOKEN):
            self._send(401, b'{"error": "Invalid credentials in Authorization header"}')
        repo = self.hub.repos.get(id)
        if repo is None or (repo.private and self._token != TOKEN):
            self._error(404 if self._token else 401, "RepoNotFound", "Repository not found")
        if repo.gated and self._token != TOKEN:
            self._error(403, "GatedRepo", f"Access to model {id} is restricted")
        if write and self._token != TOKEN:
            self._error(403, "", "You don't have the rights to write here")
        return repo

    def _commit_of(self, repo: Repo, revision: str) -> str:
        commit = repo.commit_at(revision)
        if commit is None:
            self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    # --- requests ---

    def whoami(self, body: bytes) -> None:
        if self._token != TOKEN:
            self._send(401, b'{"error": "Invalid credentials"}')
        self._json({"type": "user", "name": OWNER, "orgs": [], "auth": {}})

    def validate(self, body: bytes) -> None:
        self._json({"errors": [], "warnings": []})

    def create(self, body: bytes) -> None:
        if self._token != TOKEN:
            self._send(401, b'{"error": "Invalid username or password."}')
        request = json.loads(body)
        id_ = f"{request.get('organization') or OWNER}/{request['name']}"
        if not id_.startswith(f"{OWNER}/"):
            self._error(403, "", f"You don't have the rights to create a model under {id_.partition('/')[0]!r}")
        response = {"url": f"{self.hub.url}/{id_}", "name": id_, "id": id_}
        if id_ in self.hub.repos:
            self._json({**response, "error": "You already created this model repo"}, 409)
        self.hub.add(id_, {".gitattributes": b"*.safetensors filter=lfs\n"})
        self.hub.repos[id_].private = bool(request.get("private")) or request.get("visibility") == "private"
        self._json(response)

    def preupload(self, body: bytes, id: str, revision: str) -> None:
        repo = self._repo(id, write="create_pr=1" not in self.path)
        tree = repo.commits[self._commit_of(repo, revision)]
        files = []
        for file in json.loads(body)["files"]:
            lfs = self._is_lfs(file["path"])
            digest = tree.get(file["path"])
            oid = digest and (digest if lfs else _git_sha1(self.hub.blobs[digest]))
            files.append(
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if lfs else "regular",
                    "shouldIgnore": False,
                    **({"oid": oid} if oid else {}),
                }
            )
        self._json({"files": files})

    def batch(self, body: bytes, id: str) -> None:
        asked = json.loads(body)
        self._repo(id, write="ref" in asked)
        objects = []
        for request in asked["objects"]:
            oid, size = request["oid"], request["size"]
            actions = {
                "upload": {"href": f"{self.hub.url}/lfs/{oid}", "header": {}},
                "verify": {"href": f"{self.hub.url}/verify", "header": {}},
            }
            objects.append({"oid": oid, "size": size, **({} if oid in self.hub.blobs else {"actions": actions})})
        self._json({"transfer": "basic", "objects": objects})

    def put(self, body: bytes, oid: str) -> None:
        assert self.hub.store(body) == oid
        self._send(200)

    def verify(self, body: bytes) -> None:
        request = json.loads(body)
        self._send(200 if len(self.hub.blobs.get(request["oid"], b"")) == request["size"] else 404)

    def commit(self, body: bytes, id: str, revision: str) -> None:
        if "commit" in self.hub.faults:
            self._error(500, "", "the commit failed")
        is_pr = "create_pr=1" in self.path
        repo = self._repo(id, write=not is_pr)
        head = self._commit_of(repo, revision)
        files: dict[str, bytes | None] = {}
        message = ""
        for line in filter(None, body.split(b"\n")):
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                message = value["summary"]
                if value.get("parentCommit") not in (None, head):
                    self._error(412, "", "A commit has happened since. Please refresh and try again.")
            elif entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
            elif entry["key"] == "deletedFile":
                files[value["path"]] = None
        number = 1 + sum(name.startswith("refs/pr/") for name in repo.branches)
        if is_pr:
            revision = f"refs/pr/{number}"
            repo.branches[revision] = head
        commit = self.hub.add(id, files, revision, message)
        answer = {"commitOid": commit, "commitUrl": f"{self.hub.url}/{id}/commit/{commit}", "success": True}
        self._json(answer | ({"pullRequestUrl": f"{self.hub.url}/{id}/discussions/{number}"} if is_pr else {}))

    def info(self, body: bytes, id: str, revision: str = "main") -> None:
        repo = self._repo(id)
        commit = self._commit_of(repo, revision)
        if "soon" in self.hub.faults:
            self.hub.faults.add("down")
        siblings: list[dict[str, Any]] = []
        for path, digest in repo.commits[commit].items():
            content = self.hub.blobs[digest]
            entry = {"size": len(content), "blobId": _git_sha1(content)}
            if self._is_lfs(path):
                entry["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 130}
            siblings.append({"rfilename": path, **(entry if "blobs=" in self.path else {})})
        model = {"_id": id, "id": id, "modelId": id, "sha": commit, "private": repo.private}
        self._json({**model, "tags": [], "siblings": siblings})

    def tree(self, body: bytes, id: str, revision: str) -> None:
        repo = self._repo(id)
        entries = []
        for path, digest in repo.commits[self._commit_of(repo, revision)].items():
            content = self.hub.blobs[digest]
            size, oid = len(content), _git_sha1(content)
            lfs = {"lfs": {"oid": digest, "size": size, "pointerSize": 130}} if self._is_lfs(path) else {}
            entries.append({"type": "file", "path": path, "oid": oid, "size": size, **lfs})
        self._json(entries)

    def _is_lfs(self, path: str) -> bool:
        return self.hub.mode == "lfs" and path.endswith((".safetensors", ".png"))

    def refs(self, body: bytes, id: str) -> None:
        repo = self._repo(id)

        def to_json(commits: dict[str, str], kind: str) -> list[dict[str, str]]:
            return [{"name": n, "ref": f"refs/{kind}/{n}", "targetCommit": c} for n, c in commits.items()]

        self._json({
            "branches": to_json(repo.branches, "heads"), "tags": to_json(repo.tags, "tags"), "converts": [],
        })  # fmt: skip

    def tag(self, body: bytes, id: str, revision: str) -> None:
        repo = self._repo(id, write=True)
        name = json.loads(body)["tag"]
        if name in repo.tags:
            self._error(409, "", "Tag reference exists already")
        repo.tags[name] = self._commit_of(repo, revision)
        self._send(200)

    def branch(self, body: bytes, id: str, name: str) -> None:
        repo = self._repo(id, write=True)
        if name in repo.branches:
            self._error(409, "", "Reference already exists")
        start = json.loads(body or b"{}").get("startingPoint") or "main"
        repo.branches[name] = self._commit_of(repo, start)
        self._send(200)

    def resolve(self, body: bytes, id: str, revision: str, path: str) -> None:
        repo = self._repo(id)
        commit = self._commit_of(repo, revision)
        if path not in repo.commits[commit]:
            self._error(404, "EntryNotFound", f"{path} does not exist")
        digest = repo.commits[commit][path]
        content = self.hub.blobs[digest]
        etag = digest if self._is_lfs(path) else _git_sha1(content)
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if self._is_lfs(path):
            headers |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(content))}
        if "corrupt" in self.hub.faults and path.endswith(".safetensors"):
            content = content[:-4] + bytes(4)
        if self.command == "HEAD":
            self._send(200, b"", {**headers, "Content-Length": str(len(content))})
        if span := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or ""):
            start, end = int(span[1]), int(span[2] or len(content) - 1)
            headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
            self._send(206, content[start : end + 1], headers)
        self._send(200, content, headers)

    _ID = r"(?P<id>[\w.-]+/[\w.-]+)"
    _REV = r"(?P<revision>[^/]+)"
    routes = (
        (r"GET /api/whoami-v2", whoami),
        (r"POST /api/validate-yaml", validate),
        (r"POST /api/repos/create", create),
        (rf"POST /api/models/{_ID}/preupload/{_REV}", preupload),
        (rf"POST /{_ID}\.git/info/lfs/objects/batch", batch),
        (r"PUT /lfs/(?P<oid>\w+)", put),
        (r"POST /verify", verify),
        (rf"POST /api/models/{_ID}/commit/{_REV}", commit),
        (rf"GET /api/models/{_ID}", info),
        (rf"GET /api/models/{_ID}/revision/{_REV}", info),
        (rf"GET /api/models/{_ID}/tree/{_REV}/?", tree),
        (rf"GET /api/models/{_ID}/refs", refs),
        (rf"POST /api/models/{_ID}/tag/{_REV}", tag),
        (rf"POST /api/models/{_ID}/branch/(?P<name>[^/]+)", branch),
        (rf"(?:GET|HEAD) /{_ID}/resolve/{_REV}/(?P<path>.+)", resolve),
    )
