"""A headless Chromium that knows no network, driven by its DevTools protocol."""

import contextlib
import itertools
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest


class Tab:
    """One page of the browser: what it shows, what it complained of, what it could not load."""

    def __init__(self, address: str):
        import websocket

        self._socket = websocket.create_connection(address, timeout=60, suppress_origin=True)
        self._count = itertools.count()
        self.complaints: list[str] = []
        self.failed: list[str] = []
        self._asked: dict[str, str] = {}
        for domain in ("Runtime", "Log", "Network", "Page"):
            self._call(f"{domain}.enable")

    def _call(self, method: str, **parameters) -> dict:
        number = next(self._count)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            said = json.loads(self._socket.recv())
            if said.get("id") == number:
                assert "error" not in said, said
                return said["result"]
            self._note(said["method"], said["params"]) if "method" in said else None

    def _note(self, event: str, about: dict) -> None:
        if event == "Runtime.exceptionThrown":
            thrown = about["exceptionDetails"]
            self.complaints.append(str(thrown.get("exception", thrown).get("description", thrown)))
        elif event == "Runtime.consoleAPICalled" and about["type"] == "error":
            self.complaints.append(" ".join(str(a.get("value", a)) for a in about["args"]))
        elif event == "Log.entryAdded" and about["entry"]["level"] == "error":
            self.complaints.append(about["entry"]["text"] + " " + about["entry"].get("url", ""))
        elif event == "Network.requestWillBeSent":
            self._asked[about["requestId"]] = about["request"]["url"]
        elif event == "Network.loadingFailed" and not about.get("canceled"):
            self.failed.append(self._asked.get(about["requestId"], "?"))

    def open(
        self, address: str, width: int = 1300, height: int = 1000, seconds: float = 20
    ) -> None:
        """Load a page in a window of that size, to its load event."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", **size)
        self._call("Page.navigate", url="about:blank")
        self.wait("location.href == 'about:blank'")
        self._call("Page.navigate", url=address)
        self.wait("location.href != 'about:blank' && document.readyState == 'complete'", seconds)

    def run(self, script: str):
        """The value of an expression in the page; a promise is waited for."""
        asked = {"expression": script, "returnByValue": True, "awaitPromise": True}
        answer = self._call("Runtime.evaluate", **asked)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, script: str, seconds: float = 20):
        """The value of an expression as soon as it is true."""
        end = time.monotonic() + seconds
        while not (value := self.run(script)):
            assert time.monotonic() < end, f"not true in {seconds} s: {script}; {self.complaints}"
            time.sleep(0.05)
        return value

    def click(self, script: str) -> None:
        """Press the mouse in the middle of the element that an expression gives."""
        place = f"(e => (e.scrollIntoView({{block: 'center'}}), e.getBoundingClientRect().toJSON()))({script})"
        box = self.run(place)
        where = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
        for kind in ("mousePressed", "mouseReleased"):
            self._call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **where)


@contextlib.contextmanager
def chromium(folder: Path) -> Iterator[Tab]:
    """A tab of a Chromium that finds this machine alone; the test is skipped where there is none."""
    program = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    if program is None:
        pytest.skip("no Chromium is here")
    pytest.importorskip("websocket")
    command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += [f"--user-data-dir={folder}", "--remote-debugging-port=0", "--no-first-run"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        port = _port(process, folder / "DevToolsActivePort")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=30) as answer:
            (page,) = [one for one in json.load(answer) if one["type"] == "page"]
        yield Tab(page["webSocketDebuggerUrl"])
    finally:
        process.terminate()
        process.wait()


def _port(process: subprocess.Popen, file: Path) -> int:
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        if file.is_file() and (lines := file.read_text().splitlines()):
            return int(lines[0])
        time.sleep(0.05)
    raise AssertionError("Chromium did not start")
