"""Where files come from: a public S3 bucket without credentials, or a plain web server.

Both give the same three things: what a file is (`Remote`), its bytes from one position to another,
and one of three errors: `Broken` (try again), `Changed` (another version is there now), `Refused`
(trying again is useless). Nothing here writes to disk or knows a data set.
"""

import contextlib
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from neurovl.errors import ConfigError, MissingError

if TYPE_CHECKING:
    from botocore.client import BaseClient

BLOCK = 1 << 18
AGAIN = {
    "RequestTimeout",
    "SlowDown",
    "RequestTimeTooSkewed",
    "InternalError",
    "ServiceUnavailable",
}


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
    """The connection or the server failed: the same request may work later.

    Attributes
    ----------
    moved : bool
        Whether bytes came before it broke.
    """

    moved = False


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


class Bucket:
    """A public S3 bucket, read without credentials.

    Parameters
    ----------
    name, region : str
    endpoint : str, optional
        Address of a mirror that speaks S3.
    settings : Settings

    Raises
    ------
    MissingError
        The packages that speak S3 are not installed.
    """

    def __init__(self, name: str, region: str, endpoint: str | None, settings: Settings) -> None:
        self.name, self.settings = name, settings
        try:
            self._client = _anonymous_client(region, endpoint, settings)
        except ValueError as problem:
            raise ConfigError(
                f"the endpoint {endpoint!r} is no address of an S3 server ({problem}), expected "
                "something like https://host:port"
            ) from problem

    def __str__(self) -> str:
        return f"s3://{self.name}"

    def list(self, folder: str) -> dict[str, Remote]:
        """The files of one folder (``a/b/``), by key; folders within it are left out."""
        with _s3_as_ours():
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.name, Prefix=folder, Delimiter="/"
            )
            entries = [entry for page in pages for entry in page.get("Contents", [])]
        return {one["Key"]: _remote(one["Key"], one["Size"], one["ETag"]) for one in entries}

    def head(self, key: str) -> Remote:
        """The version that the bucket has now."""
        with _s3_as_ours():
            answer = self._client.head_object(Bucket=self.name, Key=key)
        return _remote(key, answer["ContentLength"], answer["ETag"])

    def part_size(self, remote: Remote) -> int | None:
        """Bytes of the first part of a file uploaded in parts; None where the server does not say."""
        with _s3_as_ours():
            answer = self._client.head_object(Bucket=self.name, Key=remote.key, PartNumber=1)
        return answer["ContentLength"] if answer.get("PartsCount") else None

    def read(self, remote: Remote, start: int, stop: int) -> Iterator[bytes]:
        """Bytes `start` to `stop` (excluded) of just this version, as they come."""
        with _s3_as_ours():
            answer = self._client.get_object(
                Bucket=self.name,
                Key=remote.key,
                Range=f"bytes={start}-{stop - 1}",
                IfMatch=f'"{remote.etag}"',
            )
        _check_answer(remote, start, stop, answer.get("ETag"), answer.get("ContentRange"))
        with answer["Body"] as stream:
            yield from _blocks(getattr(stream, "read1", stream.read), self.settings)


class Web:
    """Files of a web server that answers byte ranges."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def head(self, url: str, checksum: str = "") -> Remote:
        """The version that the server has now; its checksum must come from elsewhere."""
        with self._open(url, "HEAD", {}) as answer:
            size, etag = answer.headers["Content-Length"], answer.headers["ETag"] or ""
        if size is None:
            raise Refused("the server does not tell its size")
        return Remote(url, int(size), "" if etag.startswith("W/") else _bare(etag), checksum)

    def part_size(self, remote: Remote) -> None:
        """Not known to web servers."""

    def read(self, remote: Remote, start: int, stop: int) -> Iterator[bytes]:
        """Bytes `start` to `stop` (excluded) of just this version, as they come."""
        headers = {"Range": f"bytes={start}-{stop - 1}"}
        if remote.etag:
            headers["If-Match"] = f'"{remote.etag}"'
        with self._open(remote.key, "GET", headers) as answer:
            if answer.status != 206:
                raise Refused(f"answers {answer.status} to a byte range, expected 206")
            etag = answer.headers["ETag"] if remote.etag else None
            _check_answer(remote, start, stop, etag, answer.headers["Content-Range"])
            yield from _blocks(answer.read1, self.settings)

    def _open(self, url: str, method: str, headers: dict[str, str]) -> "HTTPResponse":
        with _as_ours():
            request = Request(url, method=method, headers=headers)
            return urlopen(request, timeout=self.settings.read_timeout)


@contextlib.contextmanager
def _as_ours() -> Iterator[None]:
    """Turn what urllib raises into `Broken`, `Changed` or `Refused`."""
    try:
        yield
    except HTTPError as problem:
        raise _by_status(problem.code, problem.reason) from problem
    except (OSError, HTTPException) as problem:
        raise Broken(str(problem) or type(problem).__name__) from problem
    except ValueError as problem:
        raise Refused(str(problem)) from problem  # no address at all


@contextlib.contextmanager
def _s3_as_ours() -> Iterator[None]:
    """The same for what boto3 raises."""
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    with _as_ours():
        try:
            yield
        except ClientError as problem:
            status = problem.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            error = problem.response.get("Error", {})
            code = error.get("Code", "")
            raise _by_status(
                status, error.get("Message", "") if code.isdigit() else code
            ) from problem
        except (BotoCoreError, ResponseParserError) as problem:
            raise Broken(str(problem) or type(problem).__name__) from problem


def _by_status(status: int, reason: str) -> Exception:
    if status in (412, 416):
        return Changed(reason)
    if status >= 500 or status in (0, 408, 429) or reason in AGAIN:
        return Broken(f"the server answers {status} {reason}")
    return Refused(f"the server answers {status} {reason}")


def _check_answer(
    remote: Remote, start: int, stop: int, etag: str | None, content_range: str | None
) -> None:
    """Refuse a body that is of another version or another place; some servers ignore If-Match."""
    found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", content_range or "")
    if etag is not None and _bare(etag) != remote.etag:
        raise Changed(remote.key)
    if not found:
        raise Broken(f"the server answers a byte range with {content_range!r}")
    if found[3] not in (str(remote.size), "*"):
        raise Changed(remote.key)
    if (int(found[1]), int(found[2])) != (start, stop - 1):
        raise Broken(f"the server answers bytes {start} to {stop - 1} with {content_range!r}")


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


def _remote(key: str, size: int, etag: str) -> Remote:
    return Remote(key, size, _bare(etag), _bare(etag))


def _bare(etag: str) -> str:
    return etag.strip().strip('"')


def _anonymous_client(region: str, endpoint: str | None, settings: Settings) -> "BaseClient":
    """An S3 client that looks for no credentials, reads no file of the user's, and retries nothing."""
    try:
        import boto3
        from botocore import UNSIGNED
        from botocore.config import Config
        from botocore.credentials import CredentialResolver
        from botocore.session import Session
        from botocore.tokens import TokenProviderChain
    except ImportError as problem:
        raise MissingError(
            f"{problem.name} is not installed, expected it for downloads from S3: "
            "pip install 'neurovl[download]'"
        ) from problem

    nothing = (None, None, os.devnull, None)  # neither key, nor environment variable
    core = Session(
        session_vars={
            "profile": (None, None, None, None),
            "config_file": nothing,
            "credentials_file": nothing,
        }
    )
    core.register_component("credential_provider", CredentialResolver(providers=[]))
    core.register_component("token_provider", TokenProviderChain())
    config = Config(
        signature_version=UNSIGNED,
        retries={"mode": "standard", "total_max_attempts": 1},  # `insist` tries again
        # S3's flexible checksums are not given for byte ranges; files are checked when whole
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        defaults_mode="legacy",  # `auto` would ask a cloud machine's metadata service
        ignore_configured_endpoint_urls=True,
        connect_timeout=settings.connect_timeout,
        read_timeout=settings.read_timeout,
        max_pool_connections=settings.jobs + 2,
        s3={"addressing_style": "path" if endpoint else "virtual"},
    )
    return boto3.Session(botocore_session=core).client(
        "s3", region_name=region, endpoint_url=endpoint, config=config
    )
