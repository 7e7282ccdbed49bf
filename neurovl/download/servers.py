"""Where files come from: a plain web server, or a public S3 bucket, which is one with a list.

Both say what a file is (`Remote`) and give its bytes from one position to another, or one of three
errors: `Broken` (try again), `Changed` (another version is there now), `Refused` (trying again is
useless). No credentials are looked for. Nothing here writes to disk or knows a data set.
"""

import contextlib
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import requests

from neurovl.errors import ConfigError, MissingError

BLOCK = 1 << 18


@dataclass(frozen=True)
class Settings:
    """How a transfer goes on.

    Attributes
    ----------
    jobs : int
        Connections at a time.
    chunk : int
        Bytes asked for at a time; also what a killed process may have to fetch again.
    attempts : int
        Failures in a row, with nothing received, after which a request is given up.
    backoff, longest_backoff : float
        Seconds before the second attempt, doubled at each further one up to the longest.
    connect_timeout, read_timeout : float
        Seconds without an answer, or without a byte.
    slowest : int
        Bytes a second below which, over `read_timeout`, a connection counts as broken.
    """

    jobs: int = 8
    chunk: int = 32 << 20
    attempts: int = 8
    backoff: float = 1.0
    longest_backoff: float = 30.0
    connect_timeout: float = 15.0
    read_timeout: float = 30.0
    slowest: int = 1024


@dataclass(frozen=True)
class Remote:
    """One version of a file on a server.

    Attributes
    ----------
    key : str
        Key in the bucket, or address.
    size : int
        Bytes.
    etag : str
        The server's name of this version, without quotes; empty where it gives none.
    checksum : str
        md5 in hex, or S3's ``md5-N`` of a file that was uploaded in N parts; empty if unknown.
    """

    key: str
    size: int
    etag: str = ""
    checksum: str = ""


class Broken(Exception):
    """The connection or the server failed: the same request may work later."""

    moved = False  # whether bytes came before it broke


class Changed(Exception):
    """The file on the server is no longer the version that was asked for."""


class Refused(Exception):
    """The server will not give this file."""


class Stopped(Exception):
    """The work was stopped by another thread's error or by the user."""


def insist(attempt: Callable, what: str, settings: Settings, stop: threading.Event) -> Any:
    """Call `attempt` until it works; it raises `Broken` where trying again makes sense.

    Raises
    ------
    MissingError
        After ``settings.attempts`` failures in a row without a byte, or ten times as many in all.
    """
    barren = total = 0
    while True:
        try:
            return attempt()
        except Broken as problem:
            barren, total = 0 if problem.moved else barren + 1, total + 1
            if barren >= settings.attempts or total >= 10 * settings.attempts:
                raise MissingError(
                    f"{what} could not be fetched ({problem}; {total} attempts): check the "
                    "connection and run the same command again, it goes on where it stopped"
                ) from problem
            longest = min(settings.longest_backoff, settings.backoff * 2 ** max(barren - 1, 0))
            if stop.wait(longest * random.uniform(0.5, 1)):
                raise Stopped from problem


class Web:
    """Files of a web server that answers byte ranges; a file's key is its address."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._session = requests.Session()
        self._session.auth = lambda request: request  # else ~/.netrc is looked into
        self._session.headers["Accept-Encoding"] = "identity"
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=settings.jobs))

    def __str__(self) -> str:
        return "its web server"

    def address(self, key: str) -> str:
        """Where a file is."""
        return key

    def head(self, key: str, checksum: str = "") -> Remote:
        """The version that the server has now; its checksum must come from elsewhere."""
        with self._ask("HEAD", self.address(key)) as answer:
            size, etag = answer.headers.get("Content-Length"), answer.headers.get("ETag", "")
        if size is None:
            raise Refused("the server does not tell its size")
        return Remote(key, int(size), "" if etag.startswith("W/") else _bare(etag), checksum)

    def part_size(self, remote: Remote) -> int | None:
        """Bytes of the first part of a file uploaded in parts; None where the server does not say."""
        return None

    def read(self, remote: Remote, start: int, stop: int) -> Iterator[bytes]:
        """Bytes `start` to `stop` (excluded) of just this version, as they come."""
        headers = {"Range": f"bytes={start}-{stop - 1}"}
        if remote.etag:
            headers["If-Match"] = f'"{remote.etag}"'
        with self._ask("GET", self.address(remote.key), headers=headers) as answer:
            if answer.status_code != 206:
                raise Refused(f"answers {answer.status_code} to a byte range, expected 206")
            _check_answer(remote, start, stop, answer.headers)
            yield from _blocks(answer.raw.read1, self.settings)

    @contextlib.contextmanager
    def _ask(self, method: str, url: str, **options: Any) -> Iterator[requests.Response]:
        """An answer below 400; whatever else comes is `Broken`, `Changed` or `Refused`."""
        timeout = (self.settings.connect_timeout, self.settings.read_timeout)
        try:
            with self._session.request(
                method, url, stream=True, timeout=timeout, **options
            ) as answer:
                status, words = answer.status_code, f"{answer.status_code} {answer.reason}"
                if status in (412, 416):
                    raise Changed(words)
                if status >= 500 or status in (408, 429):
                    raise Broken(f"the server answers {words}")
                if status >= 400:
                    raise Refused(f"the server answers {words}")
                yield answer
        except requests.RequestException as problem:
            kind = Refused if isinstance(problem, ValueError) else Broken  # ValueError: no address
            raise kind(str(problem) or type(problem).__name__) from problem


class Bucket(Web):
    """A public S3 bucket.

    Parameters
    ----------
    name, region : str
    endpoint : str, optional
        Address of a mirror that speaks S3.
    settings : Settings
    """

    def __init__(self, name: str, region: str, endpoint: str | None, settings: Settings) -> None:
        super().__init__(settings)
        self.name, self._root = name, f"https://{name}.s3.{region}.amazonaws.com"
        if endpoint is not None:
            if not re.match(r"https?://[\w.\[]", endpoint):
                raise ConfigError(
                    f"the endpoint {endpoint!r} is no address of an S3 server, expected something "
                    "like https://host:port"
                )
            self._root = f"{endpoint.rstrip('/')}/{name}"

    def __str__(self) -> str:
        return f"s3://{self.name}"

    def address(self, key: str) -> str:
        """Where a file is."""
        return f"{self._root}/{quote(key)}"

    def list(self, folder: str) -> dict[str, Remote]:
        """The files of one folder (``a/b/``), by key; folders within it are left out."""
        found: dict[str, Remote] = {}
        query = {"list-type": "2", "prefix": folder, "delimiter": "/"}
        while True:
            with self._ask("GET", self._root, params=query) as answer:
                try:
                    page = ElementTree.fromstring(answer.content)
                except ElementTree.ParseError as problem:
                    raise Broken(f"the server's list cannot be read: {problem}") from problem
            for one in page.iterfind("{*}Contents"):
                key, size, etag = (one.findtext(f"{{*}}{tag}") for tag in ("Key", "Size", "ETag"))
                found[key] = Remote(key, int(size), _bare(etag), _bare(etag))
            if not (more := page.findtext("{*}NextContinuationToken")):
                return found
            query["continuation-token"] = more

    def head(self, key: str, checksum: str = "") -> Remote:
        """The version that the bucket has now; its name is its checksum."""
        remote = super().head(key)
        return Remote(key, remote.size, remote.etag, remote.etag)

    def part_size(self, remote: Remote) -> int | None:
        """Bytes of the first part of a file uploaded in parts; None where the server does not say."""
        with self._ask("HEAD", self.address(remote.key), params={"partNumber": "1"}) as answer:
            told = "x-amz-mp-parts-count" in answer.headers
            return int(answer.headers["Content-Length"]) if told else None


def _check_answer(remote: Remote, start: int, stop: int, headers: dict[str, str]) -> None:
    """Refuse a body that is of another version or another place; some servers ignore If-Match."""
    came = headers.get("Content-Range", "nothing")
    found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", came)
    if remote.etag and _bare(headers.get("ETag", remote.etag)) != remote.etag:
        raise Changed(remote.key)
    if found and found[3] not in (str(remote.size), "*"):
        raise Changed(remote.key)
    if not found or (int(found[1]), int(found[2])) != (start, stop - 1):
        raise Broken(f"the server answers bytes {start} to {stop - 1} with {came!r}")


def _blocks(read: Callable[[int], bytes], settings: Settings) -> Iterator[bytes]:
    """What `read` gives until it gives nothing; `Broken` if it fails or crawls."""
    since, received = time.monotonic(), 0
    while True:
        try:
            block = read(BLOCK)
        except Exception as problem:  # urllib3, http.client, ssl and socket each have their own
            raise Broken(f"{type(problem).__name__}: {problem}") from problem
        if not block:
            return
        yield block
        received += len(block)
        if (seconds := time.monotonic() - since) > settings.read_timeout:
            if received < settings.slowest * seconds:
                raise Broken(f"only {received} bytes came in {seconds:.0f} s")
            since, received = time.monotonic(), 0


def _bare(etag: str) -> str:
    return etag.strip().strip('"')
