"""Requests to the Hub, bounded in time and size.

They go through the session of huggingface_hub, with its proxies, certificates and login. Its own functions for
downloads and commits are not used: they wait without limit, sleep for as long as a server tells them to, and name files
in the cache after what a server answers.
"""

from __future__ import annotations

import base64
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import SplitResult, unquote, urljoin, urlsplit
from urllib.request import getproxies

from cnnzoo.errors import HubError, InputError
from cnnzoo.version import __version__
from cnnzoo.weights.hub_errors import LOGIN_HINT, OfflineError, StatusError, UnreachableError, clean

MAX_JSON_BYTES = 8 * 2**20  # of an answer; the list of ten thousand files has two
MAX_REDIRECTS = 5
MIN_BYTES_PER_SECOND = 1000  # on average, after the time limit of a request
PATIENCE = 6  # an upload, and an answer as a whole, may take so many times the time limit

_CHUNK_BYTES = 2**18


@dataclass(frozen=True)
class Response:
    """The head of an answer, and its body as it arrives."""

    status: int
    headers: Mapping[str, str]
    chunks: Iterator[bytes]
    etag: str


class _Body:
    """The body of a request, sent in chunks: bytes, or the content of a file."""

    def __init__(self, content: bytes | Path, progress: Callable[[int], object]) -> None:
        self._content, self._progress = content, progress
        self._size = len(content) if isinstance(content, bytes) else content.stat().st_size

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._read():
            yield chunk
            self._progress(len(chunk))

    def _read(self) -> Iterator[bytes]:
        if isinstance(self._content, bytes):
            for start in range(0, self._size, _CHUNK_BYTES):
                yield self._content[start : start + _CHUNK_BYTES]
            return
        with self._content.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk


class HubClient:
    """The requests that ``pull`` and ``push`` send.

    Every wait is limited by ``HF_HUB_DOWNLOAD_TIMEOUT`` (10 seconds by default). The token goes to the Hub's own
    address only, never to where it redirects.

    Args:
        token: An access token; None for that of the login, True to require one, False for none.
        endpoint: The Hub's address; by default ``HF_ENDPOINT``.

    Attributes:
        endpoint: The address without user and password.

    Raises:
        InputError: If the address or the token is not valid.
        HubError: If there is no token and ``token=True``.
    """

    def __init__(self, token: str | bool | None = None, endpoint: str | None = None) -> None:
        from huggingface_hub import constants, errors

        utils: Any = import_module("huggingface_hub.utils")

        if not (token is None or isinstance(token, (str, bool))):
            raise InputError(f"token must be a string, True, False or None, not {type(token).__name__}")
        address = _split(str(endpoint or constants.ENDPOINT))
        self.endpoint = f"{address.scheme}://{address.netloc.rpartition('@')[2]}{address.path.rstrip('/')}"
        try:
            headers = utils.build_hf_headers(token=token, library_name="cnnzoo", library_version=__version__)
        except errors.LocalTokenNotFoundError:
            raise HubError(f"token=True, but there is no token on this machine; {LOGIN_HINT}") from None
        secret = headers.get("authorization", "").partition(" ")[2]
        if not (secret.isascii() and secret.isprintable()) or " " in secret:
            raise InputError("the token has characters that no token has; copy it again, without spaces and line ends")
        self._headers = {name.lower(): value for name, value in headers.items()}
        secrets = [secret]
        if address.username is not None:
            login = f"{unquote(address.username)}:{unquote(address.password or '')}"
            self._headers["authorization"] = "Basic " + base64.b64encode(login.encode()).decode()
            secrets += [self._headers["authorization"].partition(" ")[2], address.password or ""]
        secrets += [urlsplit(proxy).password or "" for proxy in getproxies().values() if "@" in proxy]
        self._secrets = sorted({s for secret in secrets for s in (secret, unquote(secret)) if len(s) > 2}, key=len)[
            ::-1
        ]

    def clean(self, text: object) -> str:
        """Returns foreign text in one line for a message, without the secrets in use."""
        return clean(text, self._secrets)

    # --- JSON ---

    def get(self, path: str) -> dict[str, Any]:
        """Returns the JSON object at a path of the Hub.

        Raises:
            StatusError: If the answer is an error.
            UnreachableError: If there is none, or it is not a JSON object.
        """
        with self.open("GET", self.endpoint + path) as response:
            return self._json(response)

    def post(
        self, path: str, value: Any, *, headers: Mapping[str, str] | None = None, content_type: str = "application/json"
    ) -> dict[str, Any]:
        """Sends JSON, or bytes as they are, and returns the JSON object of the answer.

        Args:
            path: A path of the Hub, or an address that it has named.
            value: Plain values, or bytes.
            headers: Further headers.
            content_type: The type of ``value``.

        Raises:
            StatusError: If the answer is an error.
            UnreachableError: If there is none, or it is not a JSON object; an empty one counts as an empty object.
        """
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        url = self.endpoint + path if path.startswith("/") else path
        with self.open(
            "POST", url, headers={"content-type": content_type, **(headers or {})}, content=content
        ) as response:
            return self._json(response)

    def upload(self, url: str, file: Path, headers: Mapping[str, str], progress: Callable[[int], object]) -> None:
        """Sends a file to an address that the Hub has named.

        Raises:
            StatusError: If the answer is an error.
            UnreachableError: If there is none.
        """
        with self.open("PUT", url, headers=headers, content=file, progress=progress) as response:
            self._read(response, MAX_JSON_BYTES)

    def _json(self, response: Response) -> dict[str, Any]:
        content = self._read(response, MAX_JSON_BYTES)
        try:
            value = json.loads(content) if content.strip() else {}
        except (ValueError, RecursionError):
            self.refuse("its answer is not JSON")
        if not isinstance(value, dict):
            self.refuse(f"its answer is a JSON {type(value).__name__}, not an object")
        return value

    def _read(self, response: Response, max_bytes: int) -> bytes:
        content = bytearray()
        for chunk in response.chunks:
            content += chunk
            if len(content) > max_bytes:
                self.refuse(f"its answer has more than {max_bytes:,} bytes")
        length = response.headers.get("content-length") or ""
        if length.isdecimal() and len(content) < int(length[:18]):
            raise UnreachableError(f"{self.endpoint} broke off its answer; check the network connection and try again")
        return bytes(content)

    def refuse(self, what: str) -> NoReturn:
        """Raises the error for an answer that a Hub does not give.

        Raises:
            UnreachableError: Always.
        """
        raise UnreachableError(
            f"{self.endpoint} does not answer like a Hub: {what}; check HF_ENDPOINT and the proxy, and whether this "
            "network requires a login in the browser"
        )

    # --- requests ---

    @contextmanager
    def open(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | Path | None = None,
        progress: Callable[[int], object] = lambda size: None,
    ) -> Iterator[Response]:
        """Sends a request and yields its answer, after redirects.

        Raises:
            StatusError: If the answer is an error.
            UnreachableError: If there is none, or it leads to an address that is not followed.
        """
        etag = ""
        for _ in range(MAX_REDIRECTS + 1):
            body = None if content is None else _Body(content, progress)
            with self._send(method, url, headers or {}, body) as response:
                if self._is_own(url):  # the Hub names the file; a storage server has tags of its own
                    etag = etag or response.headers.get("x-linked-etag") or response.headers.get("etag") or ""
                location = response.headers.get("location")
                if response.status not in (301, 302, 303, 307, 308) or not location:
                    if not 200 <= response.status < 300:
                        raise self._status_error(response)
                    yield Response(response.status, response.headers, response.chunks, etag)
                    return
            url = self._redirect(method, url, location)
        self.refuse(f"it redirects more than {MAX_REDIRECTS} times")

    def _redirect(self, method: str, url: str, location: str) -> str:
        try:
            target = _split(urljoin(url, location))
        except (InputError, ValueError):
            self.refuse(f"it redirects to {self.clean(location)!r}, which is not an HTTP address")
        if target.scheme == "http" and urlsplit(url).scheme == "https":
            self.refuse(f"it redirects from https to http://{self.clean(target.hostname)}")
        if method != "GET":  # what it has done already is not known, and nothing is sent twice
            self.refuse(f"it redirects an upload to {self.clean(target.path)!r} on {self.clean(target.hostname)}")
        return target._replace(netloc=target.netloc.rpartition("@")[2], fragment="").geturl()

    def _is_own(self, url: str) -> bool:
        """Returns whether an address is on the Hub's own server, so that it may get the token."""
        return _origin(url) == _origin(self.endpoint)

    @contextmanager
    def _send(self, method: str, url: str, headers: Mapping[str, str], body: _Body | None) -> Iterator[Response]:
        """Sends one request through the session of huggingface_hub; redirects are not followed."""
        from huggingface_hub import constants

        try:
            session: Any = import_module("huggingface_hub.utils").get_session()
        except Exception as error:  # a proxy or certificate in the environment that is not valid
            raise self._no_answer(error) from None
        timeout = float(constants.HF_HUB_DOWNLOAD_TIMEOUT) * (1 if method == "GET" else PATIENCE)
        own = self._headers if self._is_own(url) else {"user-agent": self._headers.get("user-agent", "cnnzoo")}
        sent = {**own, "accept-encoding": "identity", **{name.lower(): value for name, value in headers.items()}}
        if body is not None:
            sent["content-length"] = str(len(body))
        is_httpx = callable(getattr(session, "stream", None))  # since huggingface_hub 1.0; requests before
        options: dict[str, Any] = {"headers": sent, "timeout": timeout}
        options |= {"follow_redirects": False} if is_httpx else {"allow_redirects": False, "stream": True}
        if body is not None:
            options["content" if is_httpx else "data"] = body
        try:
            opened: Any = (session.stream if is_httpx else session.request)(method, url, **options)
            raw = opened.__enter__()
        except Exception as error:  # of any HTTP library
            raise self._no_answer(error) from None
        try:
            if raw.headers.get("content-encoding", "identity") not in ("", "identity"):
                self.refuse("its answer is compressed, which was not asked for")
            chunks = raw.iter_raw() if is_httpx else iter(lambda: _read_some(raw.raw), b"")
            yield Response(raw.status_code, raw.headers, self._limit(chunks, timeout), "")
        finally:
            opened.__exit__(None, None, None)

    def _limit(self, chunks: Iterator[bytes], timeout: float) -> Iterator[bytes]:
        """Yields the chunks of an answer; raises UnreachableError if it breaks off or is extremely slow."""
        start, size = time.monotonic(), 0
        while True:
            try:
                chunk = next(chunks, None)
            except Exception as error:  # of any HTTP library
                raise self._no_answer(error) from None
            if chunk is None:
                return
            size += len(chunk)
            if time.monotonic() - start > timeout * PATIENCE + size / MIN_BYTES_PER_SECOND:
                raise UnreachableError(
                    f"{self.endpoint} sends fewer than {MIN_BYTES_PER_SECOND:,} bytes per second; try again later"
                )
            yield chunk

    def _no_answer(self, error: Exception) -> HubError:
        from huggingface_hub.errors import OfflineModeIsEnabled

        if isinstance(error, OfflineModeIsEnabled):
            return OfflineError("HF_HUB_OFFLINE=1 forbids requests; unset it")
        reason = self.clean(error) or type(error).__name__
        return UnreachableError(
            f"{self.endpoint} cannot be reached ({reason}); check the network connection and try again"
        )

    def _status_error(self, response: Response) -> StatusError:
        text = response.headers.get("x-error-message", "")
        if not text:
            try:
                body = self._read(response, 2**16)
                text = json.loads(body).get("error")
            except Exception:  # only an explanation
                text = ""
        code = response.headers.get("x-error-code", "")
        return StatusError(response.status, code, self.clean(text if isinstance(text, str) else ""))


def _read_some(raw: Any) -> bytes:
    content: bytes = raw.read1(_CHUNK_BYTES) if hasattr(raw, "read1") else raw.read(1024)
    return content


def _split(address: str) -> SplitResult:
    """Returns the parts of an HTTP address.

    Raises:
        InputError: If it is none.
    """
    try:
        parts = urlsplit(address)
        is_valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid or len(address) > 8192 or not address.isascii() or not address.isprintable() or " " in address:
        raise InputError(
            f"{clean(address)!r} is not the address of a Hub; write endpoint='https://huggingface.co', or set "
            "HF_ENDPOINT"
        )
    return parts


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


@contextmanager
def progress_bar(description: str, size: int) -> Iterator[Callable[[int], object]]:
    """Shows how many bytes of a transfer are done, if stderr is a terminal; yields a function to add bytes."""
    tqdm: Any = import_module("huggingface_hub.utils").tqdm
    try:
        is_terminal = sys.stderr.isatty()
    except (AttributeError, ValueError):  # no stderr, or closed
        is_terminal = False
    with tqdm(total=size, desc=description, unit="B", unit_scale=True, disable=not is_terminal or None) as bar:
        yield bar.update
