"""A proxy on this machine that breaks some of the answers it passes on, and counts what it passes."""

import http.client
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


@dataclass
class Seen:
    """One request for a file, as it was answered."""

    path: str
    range: tuple[int, int] | None  # first byte, and the byte after the last
    headers: dict
    status: int = 0
    served: int = 0  # bytes of body passed on


@dataclass
class Fault:
    """What goes wrong with an answer.

    `kind` is ``reset`` or ``truncate`` (after `after` bytes), ``stall`` (the same, then silence),
    ``dribble`` (then one byte each 50 ms), ``corrupt`` (the byte at `after` is another) or ``status``.
    """

    kind: str
    after: int = 0
    status: int = 503


class FaultProxy:
    """Passes GET and HEAD on to `upstream`; `fault(seen, n)` says what goes wrong with the n-th GET of a file."""

    def __init__(self, upstream: str):
        self.upstream = urlsplit(upstream)
        self.fault: Callable[[Seen, int], Fault | None] = lambda seen, n: None
        self.seen: list[Seen] = []
        self.drop: set[str] = set()  # headers of requests that are not passed on, in small letters
        self.release = threading.Event()  # ends all silences
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                proxy.answer(self)

            do_HEAD = do_GET

            def log_message(self, *args):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):
                pass  # clients that hang up are part of the tests

        self._server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def reset(self) -> None:
        self.fault, self.seen, self.drop = (lambda seen, n: None), [], set()
        self.release.set()
        self.release = threading.Event()

    def close(self) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()

    def served(self, part: str) -> int:
        """Bytes of bodies passed on of the files whose path holds `part`."""
        return sum(one.served for one in self.seen if part in one.path)

    def gets(self, part: str) -> list[Seen]:
        return [one for one in self.seen if part in one.path]

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        seen = Seen(unquote(handler.path), _range(handler.headers["Range"]), dict(handler.headers))
        fault = None
        if handler.command == "GET" and "list-type" not in handler.path:
            with self._lock:
                self.seen.append(seen)
                n = sum(one.path == seen.path for one in self.seen) - 1
                fault = self.fault(seen, n)
        release = self.release
        if fault and fault.kind == "status":
            seen.status = fault.status
            handler.send_response(fault.status)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        connection = http.client.HTTPConnection(self.upstream.hostname, self.upstream.port)
        dropped = {"host", "connection", *self.drop}
        headers = {k: v for k, v in handler.headers.items() if k.lower() not in dropped}
        connection.request(handler.command, handler.path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        seen.status = answer.status
        handler.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "server", "date"):
                handler.send_header(name, value)
        handler.end_headers()
        if handler.command == "HEAD":
            return
        if fault and fault.kind == "corrupt" and fault.after < len(body):
            body = body[: fault.after] + bytes([body[fault.after] ^ 1]) + body[fault.after + 1 :]
        whole = fault is None or fault.kind == "corrupt"
        handler.wfile.write(body if whole else body[: fault.after])
        handler.wfile.flush()
        seen.served = len(body) if whole else min(fault.after, len(body))
        if whole:
            return
        handler.close_connection = True
        if fault.kind == "stall":
            release.wait(60)
        elif fault.kind == "dribble":
            for at in range(fault.after, len(body)):
                handler.wfile.write(body[at : at + 1])
                handler.wfile.flush()
                if release.wait(0.05):
                    break
        elif fault.kind == "reset":
            linger = struct.pack("ii", 1, 0)  # closing sends RST
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            handler.connection.close()


def _range(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    first, last = text.removeprefix("bytes=").split("-")
    return int(first), int(last) + 1
