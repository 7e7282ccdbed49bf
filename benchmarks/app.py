"""The app with many clients at once: seconds to the page, from click to answer and to picture, and memory over time.

    python benchmarks/app.py --run runs/demo     20 clients of the explorer for ten minutes: 0.7 GB each with the tiny models
    python benchmarks/app.py --small             3 clients for some seconds, of a page without networks; the figures mean nothing

A client is a page without its browser: it loads the page, opens the page's socket, types a question that no other client
asks, presses *ask* and *paint*, and reads what comes. It stops with an error where an answer holds another client's words.
Results go to app.csv; rows of other devices stay.
"""

import itertools
import json
import re
import tempfile
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPCookieProcessor, build_opener

import nbformat
import numpy as np
import psutil
from measuring import keep, parse, processor, short

from neurovl.publishing.app import serving
from neurovl.publishing.notebooks import find_root

CLIENTS, SECONDS = 20, 600
PROTOCOL = "v1.kernel.websocket.jupyter.org"
# The explorer's controls without its networks: what was asked so far is remembered, the picture is drawn anew.
LIGHT = """
import html, io
import ipywidgets as w
from PIL import Image
asked, talk = w.Text(description="question"), w.HTML()
seen, made = w.Image(), w.Image()
ask, paint = w.Button(description="ask"), w.Button(description="paint")
count = 0
def on_ask(_):
    talk.value += f"<p><b>{html.escape(asked.value)}</b><br>heard</p>"
def on_paint(_):
    global count
    count += 1
    picture = io.BytesIO()
    Image.new("RGB", (8, 8), (count % 256, 0, 0)).save(picture, "PNG")
    made.value = picture.getvalue()
ask.on_click(on_ask)
paint.on_click(on_paint)
w.VBox([asked, ask, paint, talk, seen, made])
"""


def light_notebook(path: Path) -> Path:
    """A page with the explorer's controls that loads no network."""
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cell = nbformat.v4.new_code_cell(LIGHT)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": kernel}), path)
    return path


class Client:
    """A page of the app without its browser."""

    def __init__(self, address: str):
        import websocket

        self._browser = build_opener(cookies := HTTPCookieProcessor())
        with self._browser.open(address, timeout=600) as response:
            page = response.read().decode()
        self.kernel = re.search(r'"kernelId": "([0-9a-f-]{36})"', page).group(1)
        self._cookies = {one.name: one.value for one in cookies.cookiejar}
        self._place = place = urlsplit(address).netloc
        self._socket = websocket.create_connection(
            f"ws://{place}/api/kernels/{self.kernel}/channels",
            cookie="; ".join(f"{name}={value}" for name, value in self._cookies.items()),
            origin=f"http://{place}",
            subprotocols=[PROTOCOL],
            timeout=120,
        )
        self._session = uuid.uuid4().hex
        self.states = self._read_states()

    def close(self) -> None:
        """Leave without a word, as a browser that is killed."""
        self._socket.close()

    def leave(self) -> None:
        """Leave as a page that is closed: it says so, and its kernel ends."""
        ends = f"http://{self._place}/voila/api/shutdown/{self.kernel}"
        self._browser.open(ends, urlencode({"_xsrf": self._cookies["_xsrf"]}).encode(), 120).close()
        self.close()

    def find(self, kind: str, description: str = "") -> list[str]:
        """Ids of the controls of a kind, in the order in which they were made."""
        return [
            key
            for key, state in self.states.items()
            if state["_model_name"] == f"{kind}Model"
            and state.get("description", "") == description
        ]

    def press(self, button: str) -> dict[str, dict]:
        """Press a button and wait until all that follows is done; what changed, by control."""
        (key,) = self.find("Button", button)
        return self._send(key, {"method": "custom", "content": {"event": "click"}})

    def type(self, field_name: str, text: str) -> None:
        (key,) = self.find("Text", field_name)
        self._send(key, {"method": "update", "state": {"value": text}, "buffer_paths": []})

    def _send(self, comm: str, data: dict, kind: str = "comm_msg", **opening) -> dict[str, dict]:
        """Send a message to a control and return what had changed when the kernel was idle again."""
        from jupyter_server.services.kernels.connection import base

        number = uuid.uuid4().hex
        header = {"msg_id": number, "msg_type": kind, "session": self._session}
        header |= {"username": "", "date": "2026-01-01T00:00:00Z", "version": "5.3"}
        message = {"header": header, "parent_header": {}, "metadata": {"version": "1.0.0"}}
        message["content"] = {"comm_id": comm, "data": data, **opening}
        pack = lambda part: json.dumps(part).encode()  # noqa: E731
        self._socket.send_binary(base.serialize_msg_to_ws_v1(message, "shell", pack))
        changed: dict[str, dict] = {}
        while True:
            _, parts = base.deserialize_msg_from_ws_v1(self._socket.recv())
            header, parent, _, content = (json.loads(part) for part in parts[:4])
            if parent.get("msg_id") != number:
                continue
            if header["msg_type"] == "comm_msg":
                found = content["data"]
                for path, part in zip(found.get("buffer_paths", []), parts[4:], strict=True):
                    if len(path) == 1:
                        found["state"][path[0]] = part
                changed.setdefault(content["comm_id"], {}).update(found.get("state", found))
            if header["msg_type"] == "status" and content["execution_state"] == "idle":
                return changed

    def _read_states(self) -> dict[str, dict]:
        """What all controls hold, by id."""
        comm = uuid.uuid4().hex
        self._send(comm, {}, "comm_open", target_name="jupyter.widget.control")
        found = self._send(comm, {"method": "request_states"})[comm]["states"]
        return {key: one["state"] for key, one in found.items()}


@dataclass
class Watch:
    """What the clients saw: seconds of each kind of wait, words of others, errors."""

    waits: dict[str, list[float]] = field(
        default_factory=lambda: {"page": [], "answer": [], "picture": []}
    )
    faults: list[str] = field(default_factory=list)
    kernels: set[str] = field(default_factory=set)


def visit(address: str, name: str, names: list[str], seconds: float, watch: Watch) -> None:
    """One client for some seconds: ask and paint in turns."""
    try:
        begun = time.perf_counter()
        client = Client(address)
        watch.waits["page"].append(time.perf_counter() - begun)
        watch.kernels.add(client.kernel)
        end = time.perf_counter() + seconds
        for turn in itertools.count():
            client.type("question", f"{name} asks {turn}?")
            begun = time.perf_counter()
            said = [str(s["value"]) for s in client.press("ask").values() if "value" in s]
            watch.waits["answer"].append(time.perf_counter() - begun)
            if not any(f"{name} asks {turn}?" in one for one in said):
                watch.faults.append(f"{name} was not answered in turn {turn}: {said}")
            others = [
                other for other in names if other != name and any(other in one for one in said)
            ]
            watch.faults += [f"{name} reads what {other} asked" for other in others]
            begun = time.perf_counter()
            drawn = [s["value"] for s in client.press("paint").values() if "value" in s]
            watch.waits["picture"].append(time.perf_counter() - begun)
            if not any(isinstance(one, bytes) for one in drawn):
                watch.faults.append(f"{name} got no picture in turn {turn}")
            if time.perf_counter() >= end:
                break
        client.leave()
    except Exception as error:  # of a thread, told with the others
        watch.faults.append(f"{name}: {type(error).__name__} {error}")


def memory(process: psutil.Process) -> tuple[float, int]:
    """GB that a server and its kernels have to themselves, and the number of the kernels."""
    total, kernels = 0, 0
    for one in [process, *process.children(recursive=True)]:
        try:
            total += one.memory_full_info().uss
            # A process that the server is about to make a kernel of still has the server's own words.
            kernels += any("ipykernel" in word for word in one.cmdline())
        except psutil.NoSuchProcess:
            continue
    return total / 1e9, kernels


def crowd(address: str, server: psutil.Process, clients: int, seconds: float) -> tuple[Watch, list]:
    """So many clients at once; what they saw, and the memory about every second: seconds, GB, kernels."""
    watch, series = Watch(), []
    names = [f"client-{uuid.uuid4().hex[:8]}" for _ in range(clients)]
    threads = [
        threading.Thread(target=visit, args=(address, name, names, seconds, watch))
        for name in names
    ]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        series.append((time.perf_counter() - begun, *memory(server)))
        time.sleep(1)
    return watch, series


def emptied(server: psutil.Process, seconds: float) -> tuple[float, int]:
    """The memory, in GB, when the last kernel has ended or after so many seconds; the number of kernels."""
    end = time.perf_counter() + seconds
    while (left := memory(server))[1] and time.perf_counter() < end:
        time.sleep(0.2)
    return left


def main(arguments: list[str] | None = None) -> None:
    options = {"--run": {"type": Path, "help": "run folder whose explorer is opened"}}
    chosen = parse(__doc__, arguments, options)
    if not (chosen.small or chosen.run):
        raise SystemExit("the explorer of a run is opened, name the run with --run, or say --small")
    clients, seconds = (3, 2) if chosen.small else (CLIENTS, SECONDS)
    with tempfile.TemporaryDirectory() as folder:
        page, run = light_notebook(Path(folder) / "page.ipynb"), Path(folder)
        if not chosen.small:
            page, run = find_root() / "notebooks" / "08_explore.ipynb", chosen.run
        with serving(page, run, 8866, places=clients) as (process, address):
            server = psutil.Process(process.pid)
            alone = memory(server)[0]
            watch, series = crowd(address, server, clients, seconds)
            after, kernels = emptied(server, 60)
    if watch.faults:
        raise SystemExit("; ".join(watch.faults[:5]))
    full = [gb for _, gb, n in series if n == clients] or [max(gb for _, gb, _ in series)]
    half = len(full) // 2
    row = {
        "clients": clients,
        "seconds": short(series[-1][0]),
        "kernels": len(watch.kernels),
        **{f"to {k}, s": short(float(np.median(v))) for k, v in watch.waits.items()},
        **{f"slowest {k}, s": short(max(v)) for k, v in watch.waits.items()},
        "pictures": len(watch.waits["picture"]),
        "server alone, GB": short(alone),
        "first half, GB": short(float(np.median(full[: half or 1]))),
        "second half, GB": short(float(np.median(full[half:]))),
        "after, GB": short(after),
        "kernels after": kernels,
    }
    about = {"date": time.strftime("%Y-%m-%d", time.gmtime()), "device": processor()}
    keep([row], about, chosen.out, "app.csv")


if __name__ == "__main__":
    main()
