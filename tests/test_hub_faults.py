"""A Hub that fails or is hostile: nothing outside the cache is touched, no secret is printed, one commit or none."""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import json
import os
import re
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hub import TOKEN, Fault, LocalHub

import cnnzoo
from cnnzoo.errors import CnnzooError
from cnnzoo.weights import hub_cache, hub_client
from cnnzoo.weights.hub_commit import _action
from cnnzoo.weights.model_card import make_card

# the client calls its HTTP library in a deprecated way
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPO = "ann/tiny-net"
SECRETS = (TOKEN, "pass-word")
TIMEOUT = 0.15

Answer = Callable[..., None]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cnnzoo.save(cnnzoo.create("lenet", seed=0), tmp_path_factory.mktemp("saved") / "m")


@pytest.fixture(autouse=True)
def _no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for a busy disk some thousand times takes minutes; no test here cuts the power."""
    monkeypatch.setattr("os.fsync", lambda file: None)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", TIMEOUT)
    monkeypatch.setattr(hub_client, "PATIENCE", 2)
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between attempts


# --- what goes wrong ---


def status(number: int) -> Answer:
    def answer(handler: Any, _status: int, body: bytes, headers: dict[str, str]) -> None:
        sent = handler.headers.get("Authorization") or ""
        text = json.dumps({"error": f"no \x1b[31m {sent} http://ann:pass-word@host/"}).encode()
        handler.answer(number, text, {"Retry-After": "100000", "RateLimit": '"api";r=0;t=100000'})

    return answer


def delay(handler: Any, *answer: Any) -> None:
    handler.wait(TIMEOUT * 4)
    handler.hang_up()


def hang_up(handler: Any, *answer: Any) -> None:
    handler.hang_up()


def cut(handler: Any, status: int, body: bytes, headers: dict[str, str]) -> None:
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body) + 9), **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body[: len(body) // 2])
    handler.hang_up()


def body(content: bytes, **more: str) -> Answer:
    def answer(handler: Any, status: int, right: bytes, headers: dict[str, str]) -> None:
        others = {name: value for name, value in headers.items() if name != "Content-Length"}
        handler.answer(200, content, {**others, **{name.replace("_", "-"): value for name, value in more.items()}})

    return answer


def shortened(handler: Any, status: int, right: bytes, headers: dict[str, str]) -> None:
    handler.answer(200, right[: len(right) * 2 // 3], headers)


def endless(handler: Any, *answer: Any) -> None:
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for _ in range(500):
        handler.wfile.write(b"10000\r\n" + b"[" * 65536 + b"\r\n")
    handler.hang_up()


def redirect(location: str, number: int = 307) -> Answer:
    def answer(handler: Any, *_: Any) -> None:
        handler.answer(number, b"", {"Location": location.replace("SELF", handler.path)})

    return answer


FAULTS: dict[str, tuple[Answer, bool]] = {
    "slow": (delay, False),
    "slow at once": (delay, True),
    "gone": (hang_up, True),
    "gone after": (hang_up, False),
    "cut": (cut, False),
    **{str(number): (status(number), True) for number in (400, 401, 403, 404, 409, 412, 429, 500, 503)},
    "a page": (body(b"<html>log in to the hotel's network</html>", Content_Type="text/html"), False),
    "half of it": (shortened, False),
    "null": (body(b"null"), False),
    "a list": (body(b"[1, 2]"), False),
    "a number": (body(b"7"), False),
    "nothing": (body(b""), False),
    "{}": (body(b"{}"), False),
    "deep": (body(b"[" * 100_000), False),
    "endless": (endless, False),
    "zipped": (body(b"\x1f\x8b\x08\x00", Content_Encoding="gzip"), False),
    "to a file": (redirect("file:///etc/passwd"), False),
    "in a circle": (redirect("SELF"), False),
    "elsewhere": (redirect("http://127.0.0.1:9/x"), False),
    "to nowhere": (redirect("http://[::1"), False),
}
PULL_REQUESTS = {
    "info": r"^GET /api/models/ann/tiny-net/revision",
    "config": r"^GET /ann/tiny-net/resolve/.*config.json",
    "weights": r"^GET /ann/tiny-net/resolve/.*model.safetensors",
}
PUSH_REQUESTS = {
    "create": r"^POST /api/repos/create",
    "visibility": r"^GET /api/models/ann/tiny-net$",
    "branch": r"^POST .*/branch/",
    "info": r"^GET /api/models/ann/tiny-net/revision",
    "preupload": r"^POST .*/preupload/",
    "batch": r"^POST .*/objects/batch",
    "put": r"^PUT /lfs/",
    "verify": r"^POST /verify",
    "commit": r"^POST .*/commit/",
    "tag": r"^POST .*/tag/",
    "refs": r"^GET .*/refs",
}
PR_REQUESTS = [name for name in PUSH_REQUESTS if name not in ("create", "branch", "tag", "refs")]


# --- what must hold ---


@dataclass
class Outcome:
    value: Any
    error: CnnzooError | None
    text: str  # everything that was printed, and the error
    seconds: float


class Guard:
    """Runs a pull or push, and checks what holds in any case."""

    def __init__(self, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.capfd, self.cache = capfd, folder / "home" / "cache"
        (folder / "home" / ".ssh").mkdir(parents=True)
        self.key = folder / "home" / ".ssh" / "id_ed25519"
        self.key.write_text("my own key")
        (folder / "home" / ".ssh" / "config.json").write_text("{}")
        (folder / "home" / ".ssh" / "model.safetensors").write_text("mine")
        self.folder = folder

    def _outside(self) -> dict[str, object]:
        return {
            str(path): (path.lstat().st_mtime_ns, path.read_bytes())
            for path in self.folder.rglob("*")
            if path.is_file() and not path.is_relative_to(self.cache)
        } | {
            "folders": sorted(
                str(p) for p in self.folder.rglob("*") if p.is_dir() and self.cache not in (p, *p.parents)
            )
        }

    def run(self, call: Callable[..., Any], *arguments: Any, **options: Any) -> Outcome:
        before, start = self._outside(), time.monotonic()
        value, error = None, None
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                value = call(*arguments, **{"token": TOKEN, **options})
            except CnnzooError as raised:
                error = raised
        seconds = time.monotonic() - start
        printed = "".join(self.capfd.readouterr())
        messages = [str(warning.message) for warning in caught if warning.category is UserWarning]
        text = "\n".join([printed, *messages, str(error or "")])
        assert self._outside() == before
        assert not any(secret in text for secret in SECRETS), text
        assert not printed and seconds < 10
        for message in [*messages, *([str(error)] if error else [])]:
            assert message.isprintable() and len(message) < 2000, message
        for path in self.cache.rglob("*"):
            assert path.name[0] != "." and path.suffix != ".incomplete", path
            assert path.resolve().is_relative_to(self.cache.resolve()), path
        return Outcome(value, error, text, seconds)


@pytest.fixture
def guard(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Guard:
    return Guard(tmp_path / "guarded", capfd)


@pytest.fixture
def hub(saved: Path) -> Iterator[LocalHub]:
    with LocalHub() as server:
        server.add(REPO, {file.name: file.read_bytes() for file in saved.iterdir()})
        yield server


def check_pull(hub: LocalHub, guard: Guard, request: str, fault: str) -> None:
    """A pull with an empty cache fails with what to do; the next one, without the fault, works."""
    answer, early = FAULTS[fault]
    hub.fault = Fault(PULL_REQUESTS[request], answer, early)
    outcome = guard.run(cnnzoo.pull, REPO, endpoint=hub.url, cache_dir=guard.cache)
    assert hub.hits and outcome.error is not None, outcome
    assert not any("tiny-net" in path.name for path in guard.cache.rglob("snapshots/*/model.safetensors"))
    hub.fault = None
    assert cnnzoo.load(cnnzoo.pull(REPO, endpoint=hub.url, cache_dir=guard.cache, token=TOKEN))


def check_push(hub: LocalHub, guard: Guard, saved: Path, request: str, fault: str) -> None:
    """A push makes one commit or none; the next one, without the fault, makes it if it is not there."""
    hub.repos.clear()
    hub.blobs.clear()
    answer, early = FAULTS[fault]
    hub.fault = Fault(PUSH_REQUESTS[request], answer, early)
    outcome = guard.run(cnnzoo.push, saved, REPO, endpoint=hub.url, revision="trial", tag="v1", private=False)
    assert hub.hits, outcome
    repo = hub.repos.get(REPO)
    made = 0 if repo is None else len(repo.commits) - 1
    assert made <= 1 and (made == 1 or outcome.error is not None)
    if repo is not None and made:
        assert set(repo.commits[repo.branches["trial"]]) == {
            ".gitattributes",
            "config.json",
            "model.safetensors",
            "README.md",
        }
    if outcome.error is not None and made:  # the message says so, or that it is not known
        commit = repo.branches["trial"] if repo else ""
        assert f"is at commit {commit} now" in outcome.text or "not known whether the commit was made" in outcome.text
    hub.fault = None
    commit = cnnzoo.push(saved, REPO, endpoint=hub.url, revision="trial", tag="v1", token=TOKEN)
    assert len(hub.repos[REPO].commits) == 2 and hub.repos[REPO].tags["v1"] == commit


def check_pull_request(hub: LocalHub, guard: Guard, saved: Path, request: str, fault: str) -> None:
    """A push opens one pull request or none, and changes no branch; the next one, without the fault, opens one."""
    main = hub.add(REPO, {"model.safetensors": b"", "config.json": b"{}"})
    for digest in {d for d, content in hub.blobs.items() if content == (saved / "model.safetensors").read_bytes()}:
        del hub.blobs[digest]  # it is uploaded again
    answer, early = FAULTS[fault]
    hub.fault = Fault(PUSH_REQUESTS[request], answer, early)
    outcome = guard.run(cnnzoo.push, saved, REPO, endpoint=hub.url, create_pr=True, private=False)
    assert hub.hits
    opened = [name for name in hub.repos[REPO].branches if name != "main"]
    assert hub.repos[REPO].branches["main"] == main and len(opened) <= 1
    if outcome.error is None:
        assert [outcome.value.pull_request] == opened
    elif opened:
        assert "not known whether the pull request was opened: see " in outcome.text
        assert f"{REPO}/discussions before you push again" in outcome.text
    hub.fault = None
    commit = cnnzoo.push(saved, REPO, endpoint=hub.url, create_pr=True, token=TOKEN)
    assert commit.pull_request == f"refs/pr/{len(opened) + 1}"


@pytest.mark.slow
@pytest.mark.parametrize("request_", PR_REQUESTS)
@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_of_a_pull_request(
    impatient: None, hub: LocalHub, guard: Guard, saved: Path, request_: str, fault: str
) -> None:
    check_pull_request(hub, guard, saved, request_, fault)


@pytest.mark.parametrize(
    ("request_", "fault"),
    [("visibility", "null"), ("visibility", "404"), ("put", "gone"), ("commit", "cut"), ("commit", "{}")],
)
def test_faults_of_a_pull_request(
    impatient: None, hub: LocalHub, guard: Guard, saved: Path, request_: str, fault: str
) -> None:
    check_pull_request(hub, guard, saved, request_, fault)


@pytest.mark.parametrize(
    "address", [None, "", 3, "https://x/discussions/", "x/../../0", "x/1\x1b[31m", "x/" + "9" * 99]
)
def test_hostile_pull_requests(hub: LocalHub, guard: Guard, tmp_path: Path, address: Any) -> None:
    other = cnnzoo.save(cnnzoo.create("lenet", seed=1), tmp_path / "other")
    answer = {"commitOid": "0" * 40, "pullRequestUrl": address}
    hub.fault = Fault(PUSH_REQUESTS["commit"], body(json.dumps(answer).encode()))
    text = guard.run(cnnzoo.push, other, REPO, endpoint=hub.url, create_pr=True).text
    assert "the address of the pull request is" in text and "not known whether the pull request was opened" in text


@pytest.mark.slow
@pytest.mark.parametrize("request_", PULL_REQUESTS)
@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_of_a_pull(impatient: None, hub: LocalHub, guard: Guard, request_: str, fault: str) -> None:
    check_pull(hub, guard, request_, fault)


@pytest.mark.slow
@pytest.mark.parametrize("request_", PUSH_REQUESTS)
@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_of_a_push(
    impatient: None, hub: LocalHub, guard: Guard, saved: Path, request_: str, fault: str
) -> None:
    check_push(hub, guard, saved, request_, fault)


@pytest.mark.parametrize("request_", PULL_REQUESTS)
@pytest.mark.parametrize("fault", ["gone", "503", "a page", "a list"])
def test_faults_of_a_pull(impatient: None, hub: LocalHub, guard: Guard, request_: str, fault: str) -> None:
    check_pull(hub, guard, request_, fault)


@pytest.mark.parametrize(
    ("request_", "fault"),
    [
        ("create", "403"),
        ("preupload", "null"),
        ("put", "500"),
        ("commit", "gone after"),
        ("commit", "409"),
        ("tag", "429"),
    ],
)
def test_faults_of_a_push(impatient: None, hub: LocalHub, guard: Guard, saved: Path, request_: str, fault: str) -> None:
    check_push(hub, guard, saved, request_, fault)


# --- a Hub that means harm ---

NAMES = [
    "../../../.ssh/id_ed25519",
    "/etc/passwd",
    "..",
    "",
    "a\0b",
    "a\x1b[31mb",
    "\ud800",
    "x" * 5000,
    "c:\\x",
    "~/.ssh/id",
]
KEY = "../../../.ssh/id_ed25519"  # seen from blobs/


def change_info(**values: Any) -> Answer:
    """Another answer about the commit; ``size``, ``blobId`` and ``lfs`` are those of each file."""

    def answer(handler: Any, status: int, body: bytes, headers: dict[str, str]) -> None:
        info = json.loads(body)
        for key, value in values.items():
            if key in info:
                info[key] = value
            else:
                for file in info["siblings"]:
                    file[key] = value
        handler.answer(status, json.dumps(info).encode())

    return answer


def add_siblings(handler: Any, status: int, body: bytes, headers: dict[str, str]) -> None:
    info = json.loads(body)
    info["siblings"] += [{"rfilename": name, "size": 3, "blobId": "0" * 40} for name in NAMES]
    handler.answer(status, json.dumps(info).encode())


HOSTILE: dict[str, tuple[str, Answer]] = {
    **{f"commit {sha!r:.30}": ("info", change_info(sha=sha)) for sha in (*NAMES[:7], "main", None, 3, "A" * 40)},
    **{f"blob {name!r:.30}": ("info", change_info(blobId=name)) for name in (KEY, *NAMES[1:8], 3, {})},
    **{f"lfs {name!r:.30}": ("info", change_info(lfs={"sha256": name, "size": 3})) for name in (KEY, *NAMES[1:8], 3)},
    **{f"size {size!r:.30}": ("info", change_info(size=size, lfs=None)) for size in (-1, "9", 1.5, True, 10**15, 0, 1)},
    **{f"siblings {value!r}": ("info", change_info(siblings=value)) for value in (None, {}, [3], [[]], "x")},
    **{
        f"to {location!r:.30}": ("weights", redirect(location, 302))
        for location in (
            "file:///etc/passwd", "ftp://127.0.0.1/x", "javascript:1", "//[", "http://\0", "x" * 9000,
            "data:text/plain,x", "http://:80", "http://127.0.0.1:99999/",
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_answers(impatient: None, hub: LocalHub, guard: Guard, kind: str) -> None:
    request, answer = HOSTILE[kind]
    hub.fault = Fault(PULL_REQUESTS[request], answer)
    outcome = guard.run(cnnzoo.pull, REPO, endpoint=hub.url, cache_dir=guard.cache)
    assert hub.hits and outcome.error is not None


ETAGS = (KEY, f"W/{KEY}", "/etc/passwd", "", "a\x1bb", "../" * 40 + "x", "x" * 5000, "0" * 64, "0" * 40)


@pytest.mark.parametrize("is_listed", [True, False])
@pytest.mark.parametrize("etag", ETAGS, ids=lambda etag: repr(etag)[:20])
def test_hostile_etags(impatient: None, hub: LocalHub, guard: Guard, etag: str, is_listed: bool) -> None:
    """A Hub that lists checksums needs no ETag; of one that does not, an ETag must be the checksum of the file."""

    def answer(handler: Any, status: int, body: bytes, headers: dict[str, str]) -> None:
        if "/resolve/" in handler.path:
            handler.answer(status, body, {**headers, "ETag": f'"{etag}"', "X-Linked-Etag": f'"{etag}"'})
        change_info(**({} if is_listed else {"blobId": None, "lfs": None, "size": None}))(
            handler, status, body, headers
        )

    hub.fault = Fault(r"/resolve/|/revision/", answer)
    outcome = guard.run(cnnzoo.pull, REPO, endpoint=hub.url, cache_dir=guard.cache)
    assert (outcome.error is None) == is_listed


def test_hostile_names(hub: LocalHub, guard: Guard) -> None:
    hub.fault = Fault(PULL_REQUESTS["info"], add_siblings)
    assert guard.run(cnnzoo.pull, REPO, endpoint=hub.url, cache_dir=guard.cache).error is None
    hub.add(REPO, {"model.safetensors": None, "config.json": None, "README.md": None})
    outcome = guard.run(cnnzoo.pull, REPO, endpoint=hub.url, cache_dir=guard.cache)
    assert "has no model.safetensors; it holds" in outcome.text and r"a\x1b[31mb" in outcome.text


def test_a_cache_that_leads_elsewhere(hub: LocalHub, guard: Guard) -> None:
    """Links that another program has left in the cache are not followed, and what they lead to is not removed."""
    folder = cnnzoo.pull(REPO, endpoint=hub.url, cache_dir=guard.cache)
    for name in ("config.json", "model.safetensors", "README.md"):
        file, target = folder / name, (folder / name).readlink()
        file.unlink()
        file.symlink_to(guard.key if name == "README.md" else guard.key.parent / name)
        with pytest.raises(CnnzooError, match=r"leads to .*, outside of the cache .*; remove it and pull again"):
            cnnzoo.pull(REPO, endpoint=hub.url, cache_dir=guard.cache)
        file.unlink()
        file.symlink_to(target)
    blobs = folder.parents[1] / "blobs"
    shutil.move(blobs, guard.folder / "elsewhere")
    blobs.symlink_to(guard.folder / "elsewhere")
    hub.add(REPO, {"README.md": b"other"})
    with pytest.raises(CnnzooError, match="leads to .*, outside of the cache"):
        cnnzoo.pull(REPO, endpoint=hub.url, cache_dir=guard.cache)
    assert len(list((guard.folder / "elsewhere").iterdir())) == 3 and guard.key.read_text() == "my own key"


@pytest.mark.parametrize(
    "revision", ["../../../../.ssh/x", "/etc/x", "a/../b", ".git", "a b", "a\nb", "", "x" * 300, 3, "a//b"]
)
def test_revisions_that_are_paths(guard: Guard, hub: LocalHub, revision: Any) -> None:
    outcome = guard.run(cnnzoo.pull, REPO, revision=revision, endpoint=hub.url, cache_dir=guard.cache)
    assert "must be a branch, a tag or the hash of a commit, such as 'v1', not" in outcome.text
    assert hub.requests == []


def test_the_token_stays_on_the_hub(hub: LocalHub, guard: Guard) -> None:
    with LocalHub() as other:
        other.add("x/y", {"model.safetensors": hub.read(REPO, "model.safetensors")})
        target = f"{other.url}/x/y/resolve/main/model.safetensors"
        hub.fault = Fault(PULL_REQUESTS["weights"], redirect(target, 302))
        assert guard.run(cnnzoo.pull, REPO, endpoint=hub.url, cache_dir=guard.cache).error is None
        assert len(other.headers) == 1 and "authorization" not in other.headers[0]
        assert any(TOKEN in headers.get("authorization", "") for headers in hub.headers)


def test_redirects(hub: LocalHub, guard: Guard) -> None:
    """On the Hub, as for a repository with a new name, they are followed; from https to http, and of uploads, never."""
    hub.fault = Fault("GET /api/models/ann/old/", redirect(f"/api/models/{REPO}/revision/main?blobs=true"))
    hub.repos["ann/old"] = hub.repos[REPO]
    assert guard.run(cnnzoo.pull, "ann/old", endpoint=hub.url, cache_dir=guard.cache).error is None
    client = hub_client.HubClient(TOKEN, "https://hub.invalid")
    with pytest.raises(CnnzooError, match="it redirects from https to http://elsewhere.invalid"):
        client._redirect("GET", "https://hub.invalid/x", "http://elsewhere.invalid/x")
    with pytest.raises(CnnzooError, match="it redirects an upload to '/y' on hub.invalid"):
        client._redirect("POST", "https://hub.invalid/x", "/y")
    with pytest.raises(CnnzooError, match="it does not say where to upload files"):
        _action(client, {"upload": {"href": "http://elsewhere.invalid"}}, "upload")
    assert (
        client._redirect("GET", "https://hub.invalid/x", "https://ann:pass-word@a.invalid/y") == "https://a.invalid/y"
    )


# --- secrets ---


def renew_session() -> None:
    """Makes the client read the environment again."""
    utils = importlib.import_module("huggingface_hub.utils")
    getattr(utils, "close_session", lambda: None)()  # clients before 1.0 read it in each request


def test_passwords_in_addresses(hub: LocalHub, guard: Guard, monkeypatch: pytest.MonkeyPatch, saved: Path) -> None:
    endpoint = hub.url.replace("//", "//ann:pass-word@")
    for call, argument in ((cnnzoo.pull, REPO), (cnnzoo.load, f"hf://{REPO}"), (cnnzoo.create, f"hf://{REPO}")):
        outcome = guard.run(call, argument, endpoint=endpoint, cache_dir=guard.cache)
        assert f"{hub.url} denies access" in outcome.text
    assert hub.headers[0]["authorization"] == "Basic YW5uOnBhc3Mtd29yZA=="
    assert "denies access" in guard.run(cnnzoo.push, saved, REPO, endpoint=endpoint).text
    for wrong in (
        "ftp://ann:pass-word@host",
        "http://ann:pass-word@",
        "http://ann:pass-word@host:x",
        "ann:pass-word@host",
    ):
        assert "is not the address of a Hub" in guard.run(cnnzoo.pull, REPO, endpoint=wrong, cache_dir=guard.cache).text
    for proxy in ("http://ann:pass-word@127.0.0.1:9", "nonsense://ann:pass-word@127.0.0.1:9"):
        for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(variable, proxy)
        renew_session()
        outcome = guard.run(cnnzoo.pull, REPO, endpoint="http://hub.invalid", cache_dir=guard.cache)
        assert "cannot be reached" in outcome.text
        renew_session()


@pytest.mark.parametrize("token", [f"{TOKEN}\n", f"{TOKEN} x", f"{TOKEN}\u20ac", f"{TOKEN}\x1b"])
def test_tokens_that_cannot_be_sent(guard: Guard, hub: LocalHub, token: str) -> None:
    outcome = guard.run(cnnzoo.pull, REPO, token=token, endpoint=hub.url, cache_dir=guard.cache)
    assert "the token has characters that no token has" in outcome.text


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"cache_dir": 3}, "cache_dir must be the path of a folder, not 3"),
        ({"cache_dir": "a\0b"}, "cache_dir must be the path of a folder, not 'a"),
        ({"cache_dir": "~nobody-at-all/x"}, "cache_dir must be the path of a folder, not '~nobody-at-all/x'"),
        ({"token": 3}, "token must be a string, True, False or None, not int"),
        ({"token": True}, "token=True, but there is no token on this machine; log in"),
        ({"endpoint": 3}, "'3' is not the address of a Hub; write endpoint='https://huggingface.co'"),
    ],
)
def test_arguments(guard: Guard, hub: LocalHub, arguments: dict[str, Any], expected: str) -> None:
    options = {"endpoint": hub.url, "cache_dir": guard.cache, **arguments}
    assert expected in guard.run(cnnzoo.pull, REPO, **options).text and hub.requests == []


def test_arguments_of_push(guard: Guard, hub: LocalHub, saved: Path) -> None:
    for arguments in ({"create_pr": 1}, {"private": "no"}, {"message": 5}, {"tag": "a b"}, {"parent_commit": "../x"}):
        text = guard.run(cnnzoo.push, saved, REPO, endpoint=hub.url, **arguments).text
        assert f"{next(iter(arguments))} must be" in text or "message a string" in text
    assert hub.requests == []


# --- what survives ---


def test_a_server_that_sends_drops(impatient: None, hub: LocalHub, guard: Guard) -> None:
    def drip(handler: Any, *answer: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        with contextlib.suppress(OSError):
            while True:
                handler.wfile.write(b" ")
                handler.wait(TIMEOUT / 3)

    for request in (PULL_REQUESTS["info"], PULL_REQUESTS["weights"]):
        hub.fault = Fault(request, drip)
        outcome = guard.run(cnnzoo.pull, REPO, endpoint=hub.url, cache_dir=guard.cache)
        assert "sends fewer than 1,000 bytes per second; try again later" in outcome.text and outcome.seconds < 4


def break_network(hub: LocalHub) -> None:
    hub.fault = Fault("", hang_up, True)


@pytest.mark.parametrize("fault", ["slow", "gone", "cut", "429", "503", "a page", "null", "elsewhere", "in a circle"])
def test_the_cached_copy_is_used(impatient: None, hub: LocalHub, guard: Guard, fault: str) -> None:
    old = cnnzoo.pull(REPO, endpoint=hub.url, cache_dir=guard.cache)
    hub.add(REPO, {"README.md": b"other"})
    answer, early = FAULTS[fault]
    for request in (PULL_REQUESTS["info"], "README.md"):
        hub.fault = Fault(request, answer, early)
        outcome = guard.run(cnnzoo.pull, REPO, endpoint=hub.url, cache_dir=guard.cache)
        assert outcome.value == old
        assert f"in the cache is used, which may be outdated: commit {old.name}" in outcome.text


@pytest.mark.parametrize("has_ranges", [True, False])
def test_a_download_that_breaks_off_is_continued(
    impatient: None, hub: LocalHub, guard: Guard, has_ranges: bool
) -> None:
    size = len(hub.read(REPO, "model.safetensors"))
    sent = []

    def answer(handler: Any, status: int, body: bytes, headers: dict[str, str]) -> None:
        if not has_ranges and "Content-Range" in headers:
            status, body = 200, hub.read(REPO, "model.safetensors")
        sent.append(len(body))
        if len(sent) < 3:
            cut(handler, status, body, {**headers, "Content-Length": str(len(body))})
        handler.answer(status, body, headers)

    hub.fault = Fault(PULL_REQUESTS["weights"], answer)
    assert guard.run(cnnzoo.pull, REPO, endpoint=hub.url, cache_dir=guard.cache).error is None
    assert sent == ([size, size - size // 2, size - size // 2 - (size - size // 2) // 2] if has_ranges else [size] * 3)


def test_a_damaged_commit_leaves_the_one_before(hub: LocalHub, guard: Guard, tmp_path: Path) -> None:
    """Its files are as the Hub has them, and some may belong to other commits: nothing is removed."""
    good = cnnzoo.pull(REPO, endpoint=hub.url, cache_dir=guard.cache)
    other = cnnzoo.save(cnnzoo.create("lenet", seed=1), tmp_path / "other")
    hub.add(REPO, {"model.safetensors": (other / "model.safetensors").read_bytes()})
    outcome = guard.run(cnnzoo.pull, REPO, endpoint=hub.url, cache_dir=guard.cache)
    assert "The files are as the Hub has them; tell the author, or pull another revision" in outcome.text
    break_network(hub)
    assert guard.run(cnnzoo.pull, REPO, endpoint=hub.url, cache_dir=guard.cache).value == good
    assert guard.run(cnnzoo.load, f"hf://{REPO}@{good.name}", cache_dir=guard.cache).error is None


@pytest.mark.parametrize("stored", ["0" * 64, None])
def test_a_file_whose_own_checksum_is_wrong(hub: LocalHub, guard: Guard, saved: Path, stored: str | None) -> None:
    """config.json has the right one: ``load`` of the file alone refuses it, and so does that of the repository."""
    content = (saved / "model.safetensors").read_bytes()
    right = json.loads((saved / "config.json").read_text())["cnnzoo"]["weights_sha256"]
    if stored is None:
        wrong = content.replace(b"weights_sha256", b"weights_sha255")
    else:
        wrong = content.replace(right.encode(), stored.encode())
    assert wrong != content and len(wrong) == len(content)
    hub.add(REPO, {"model.safetensors": wrong})
    for call in (cnnzoo.pull, cnnzoo.load, cnnzoo.create):
        outcome = guard.run(call, f"hf://{REPO}", endpoint=hub.url, cache_dir=guard.cache)
        expected = f"and model.safetensors says '{stored}'" if stored else "its model.safetensors has no checksum"
        assert expected in outcome.text and "The files are as the Hub has them" in outcome.text
    assert guard.run(cnnzoo.load, f"hf://{REPO}", verify=False, endpoint=hub.url, cache_dir=guard.cache).error is None


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_file_damaged_on_this_machine(hub: LocalHub, guard: Guard, name: str) -> None:
    folder = cnnzoo.pull(REPO, endpoint=hub.url, cache_dir=guard.cache)
    blob = (folder / name).resolve()
    content = bytearray(blob.read_bytes())
    content[-3] ^= 1
    blob.write_bytes(content)
    outcome = guard.run(cnnzoo.pull, REPO, endpoint=hub.url, cache_dir=guard.cache)
    assert f"{name} was damaged on this machine, and is removed from the cache: pull again" in outcome.text
    assert guard.run(cnnzoo.pull, REPO, endpoint=hub.url, cache_dir=guard.cache).error is None


def test_a_full_disk(hub: LocalHub, guard: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(self: Any, file: Any, chunk: bytes) -> None:
        with self._translate():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/secret/path")

    monkeypatch.setattr(hub_cache.RepositoryCache, "write", write)
    outcome = guard.run(cnnzoo.pull, REPO, endpoint=hub.url, cache_dir=guard.cache)
    expected = (
        f"the Hub's cache {guard.cache} cannot be used: No space left on device; free space or mend its permissions"
    )
    assert expected in outcome.text
    monkeypatch.undo()
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    outcome = guard.run(cnnzoo.pull, REPO, endpoint=hub.url, cache_dir=guard.cache)
    assert "bytes for a download, and 1,000 are free; free some, or pass cache_dir=" in outcome.text


def test_a_cache_that_is_a_file(hub: LocalHub, guard: Guard) -> None:
    outcome = guard.run(cnnzoo.pull, REPO, endpoint=hub.url, cache_dir=guard.key)
    assert f"the Hub's cache {guard.key} cannot be used: " in outcome.text


@pytest.mark.parametrize(
    ("verb", "name"), [("pull", "config"), ("pull", "weights"), *(("push", name) for name in PUSH_REQUESTS)]
)
def test_ctrl_c(
    hub: LocalHub, guard: Guard, saved: Path, monkeypatch: pytest.MonkeyPatch, verb: str, name: str
) -> None:
    """It stops in any request, and leaves what is whole."""
    request = PULL_REQUESTS[name] if verb == "pull" else PUSH_REQUESTS[name]
    if verb == "push":
        hub.repos.clear()
        hub.blobs.clear()
    send = hub_client.HubClient._send

    def interrupted(self: Any, method: str, url: str, *others: Any) -> Any:
        if re.search(request, f"{method} {url.removeprefix(hub.url)}"):
            raise KeyboardInterrupt
        return send(self, method, url, *others)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(hub_client.HubClient, "_send", interrupted)
        if verb == "pull":
            guard.run(cnnzoo.pull, REPO, endpoint=hub.url, cache_dir=guard.cache)
        cnnzoo.push(saved, REPO, endpoint=hub.url, token=TOKEN, revision="trial", tag="v1", private=False)
    assert not [path for path in guard.cache.rglob("*") if path.suffix == ".incomplete"]
    cnnzoo.push(saved, REPO, endpoint=hub.url, token=TOKEN, revision="trial", tag="v1")
    assert len(hub.repos[REPO].commits) == (1 if verb == "pull" else 2)


def test_what_killed_downloads_leave_is_removed(hub: LocalHub, guard: Guard) -> None:
    blobs = guard.cache / "models--ann--tiny-net" / "blobs"
    blobs.mkdir(parents=True)
    for name, age in (("old", 7200), ("running", 5)):
        (blobs / f"{name}.incomplete").write_bytes(b"x")
        os.utime(blobs / f"{name}.incomplete", (time.time() - age,) * 2)
    cnnzoo.pull(REPO, endpoint=hub.url, cache_dir=guard.cache)
    assert [path.name for path in blobs.glob("*.incomplete")] == ["running.incomplete"]


# --- the folder that is pushed ---


@pytest.mark.parametrize("name", ["README.md", "train.json", "history.jsonl", "curves.png"])
def test_links_out_of_a_folder_are_not_pushed(hub: LocalHub, guard: Guard, saved: Path, name: str) -> None:
    folder = guard.folder / "run"
    shutil.copytree(saved, folder)
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(guard.key)
    outcome = guard.run(cnnzoo.push, folder, REPO, endpoint=hub.url)
    assert "which is not a file of that folder; replace the link by a copy" in outcome.text and hub.requests == []
    (folder / name).unlink()
    pulled = cnnzoo.pull(REPO, endpoint=hub.url, cache_dir=guard.cache)  # its files are links to blobs
    assert guard.run(cnnzoo.push, pulled, "ann/copy", endpoint=hub.url).error is None
    assert hub.read("ann/copy", "README.md") == hub.read(REPO, "README.md")


# --- together with huggingface_hub ---


def test_the_cache_is_that_of_huggingface_hub(hub: LocalHub, guard: Guard, saved: Path) -> None:
    """Each reads what the other has downloaded or uploaded, without another download."""
    from huggingface_hub import HfApi

    api = HfApi(endpoint=hub.url, token=TOKEN)
    ours = cnnzoo.pull(REPO, endpoint=hub.url, cache_dir=guard.cache)
    hub.requests.clear()
    assert Path(api.snapshot_download(REPO, cache_dir=guard.cache)) == ours
    assert Path(api.snapshot_download(REPO, cache_dir=guard.cache, local_files_only=True)) == ours
    assert not any(request.startswith("GET /ann/tiny-net/resolve") for request in hub.requests)

    theirs = api.snapshot_download(REPO, cache_dir=guard.cache.parent / "theirs")
    hub.requests.clear()
    assert str(cnnzoo.pull(REPO, endpoint=hub.url, cache_dir=guard.cache.parent / "theirs")) == theirs
    assert not any("resolve" in request for request in hub.requests)

    commit = cnnzoo.push(saved, "ann/ours", endpoint=hub.url, token=TOKEN)
    assert Path(api.snapshot_download("ann/ours", cache_dir=guard.cache)).name == commit
    api.create_repo("ann/theirs")
    with contextlib.suppress(ValueError):  # clients before 1.0.2 cannot parse the address of a commit on another Hub
        api.upload_folder(repo_id="ann/theirs", folder_path=saved)
    commit = hub.repos["ann/theirs"].branches["main"]
    assert cnnzoo.pull("ann/theirs", endpoint=hub.url, cache_dir=guard.cache).name == commit
    assert cnnzoo.push(saved, "ann/theirs", endpoint=hub.url, token=TOKEN) == commit


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_bars(hub: LocalHub, guard: Guard, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.blobs.clear()
    hub.repos.clear()
    bars = importlib.import_module("huggingface_hub.utils.tqdm")
    monkeypatch.setattr(bars, "HF_HUB_DISABLE_PROGRESS_BARS", None)  # set for all tests
    for call in (
        lambda: cnnzoo.push(saved, REPO, endpoint=hub.url, token=TOKEN),
        lambda: cnnzoo.pull(REPO, endpoint=hub.url, cache_dir=guard.cache),
    ):
        with monkeypatch.context() as patch:
            patch.setattr("sys.stderr", terminal := _Terminal())
            call()
        assert f"{REPO}: 100%" in terminal.getvalue()
        with contextlib.redirect_stderr(io.StringIO()) as file:
            cnnzoo.pull(REPO, endpoint=hub.url, cache_dir=guard.cache / "other")
        assert file.getvalue() == ""


def test_names_in_a_card_are_text(tiny_spec: cnnzoo.Spec) -> None:
    """Names from a file are neither Markdown nor HTML on the page of a model."""
    printable = "a|b](javascript:x)<img src=x>`"  # others are refused as names of classes
    bad = f"{printable}\x1b[31m\n# title\ud800"
    model = cnnzoo.create(tiny_spec, seed=0)
    provenance: dict[str, Any] = {"kind": "trained", "data": bad, "data_sha256": bad, "steps": bad, "test_acc": 0.5}
    for _ in range(200):
        provenance = {"kind": "adapted", "how": bad, "from": provenance}
    for value in (provenance, {"kind": bad, bad: bad}, {"kind": "trained", "data": bad, "test_acc": 0.5}):
        model.metadata = model.metadata.replace(label_names=[printable, "b", "c"], provenance=value)
        text = make_card(model, "0" * 64, source=f"hf://{REPO}").split("---", 2)[2]
        text.encode()
        for part in ("<img", "](java", "\x1b", "\n# title", "`\\n"):
            assert part not in text, part
