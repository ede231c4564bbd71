"""A Hub that fails or is hostile: nothing outside the cache is touched, no secret is printed, one commit or none."""

from __future__ import annotations

import json
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hub import TOKEN, Fault, LocalHub

import cnnzoo
from cnnzoo.errors import CnnzooError
from cnnzoo.weights import hub_client

# the client calls its HTTP library in a deprecated way
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPO = "ann/tiny-net"
SECRETS = (TOKEN, "pass-word")
TIMEOUT = 0.15

Answer = Callable[..., None]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cnnzoo.save(cnnzoo.create("lenet", seed=0), tmp_path_factory.mktemp("saved") / "m")


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
    outcome = guard.run(cnnzoo.push, saved, REPO, endpoint=hub.url, revision="trial", tag="v1")
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
