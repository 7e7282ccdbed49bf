"""The app answers who has its address, on this machine, with this interpreter's kernel, at the port that it says."""

import http.cookiejar
import json
import os
import re
import socket
import urllib.error
import urllib.parse
import urllib.request

import nbformat
import pytest

from neurovl.errors import ConfigError
from neurovl.publishing import app

pytest.importorskip("voila")


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Addresses of an app whose first port was taken and whose user has another kernel of the name python3."""
    folder = tmp_path_factory.mktemp("app")
    foreign = folder / "jupyter" / "kernels" / "python3" / "kernel.json"
    foreign.parent.mkdir(parents=True)
    foreign.write_text(
        json.dumps({"argv": ["/bin/false"], "display_name": "x", "language": "python"})
    )
    source = "import os, sys\nprint('ANSWER', 6 * 7, sys.executable, os.environ['NEUROVL_RUN'])"
    book = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source)],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )
    nbformat.write(book, folder / "page.ipynb")
    with socket.socket() as taken, pytest.MonkeyPatch.context() as patch:
        taken.bind((app.HOST, 0))
        taken.listen()
        first = taken.getsockname()[1]
        patch.setenv("JUPYTER_PATH", str(folder / "jupyter"))
        with app.serving(folder / "page.ipynb", folder / "run", first) as (server, address):
            assert urllib.parse.urlsplit(address).port != first
            yield server, address, folder


def get(address: str, **headers: str) -> tuple[int, str, str]:
    """Status, text and the address in the end."""
    request = urllib.request.Request(address, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            return response.status, response.read().decode(), response.url
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), address


def without_token(address: str) -> str:
    return address.partition("?")[0]


def test_the_printed_address_shows_the_page_of_this_interpreter(served):
    _, address, folder = served
    status, text, _ = get(address)
    assert status == 200
    assert f"ANSWER 42 {os.path.realpath(os.sys.executable)}" in text or (
        f"ANSWER 42 {os.sys.executable}" in text
    )
    assert str(folder / "run") in text


@pytest.mark.parametrize("query", ["", "?token=", "?token=guessed"])
def test_without_its_token_it_shows_nothing(served, query):
    status, text, url = get(without_token(served[1]) + query)
    assert "ANSWER" not in text
    assert status in (401, 403) or "/login" in url


@pytest.mark.parametrize("place", ["api/kernels", "voila/files/page.ipynb", "api/shutdown/x"])
def test_nothing_beside_the_page_answers_without_the_token(served, place):
    status, text, url = get(without_token(served[1]) + place)
    assert status in (401, 403, 404, 405) or "/login" in url
    assert "ANSWER" not in text and "kernel_id" not in text


def test_the_token_is_no_argument_that_other_users_can_read(served):
    import psutil

    server, address, _ = served
    token = address.partition("token=")[2]
    assert len(token) > 40
    assert not any(token in word for word in psutil.Process(server.pid).cmdline())


def test_it_listens_on_this_machine_alone(served):
    import psutil

    places = psutil.Process(served[0].pid).net_connections(kind="inet")
    listening = {place.laddr.ip for place in places if place.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}


def test_pages_of_other_sites_reach_no_kernel(served):
    """A socket that a page of another site opens in the user's browser, which sends its cookies, is refused."""
    _, address, _ = served
    parts = urllib.parse.urlsplit(address)
    jar = http.cookiejar.CookieJar()
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    with browser.open(address, timeout=120) as response:
        text = response.read().decode()
    kernel = re.search(r"kernelId[^0-9a-f]+([0-9a-f-]{36})", text).group(1)
    cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in jar)

    def answer(origin: str) -> int:
        with socket.create_connection((parts.hostname, parts.port), timeout=60) as client:
            lines = [
                f"GET /api/kernels/{kernel}/channels HTTP/1.1",
                f"Host: {parts.netloc}",
                f"Cookie: {cookies}",
                f"Origin: {origin}",
                "Connection: Upgrade",
                "Upgrade: websocket",
                "Sec-WebSocket-Version: 13",
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            ]
            client.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
            return int(client.recv(4096).decode().split()[1])

    assert answer(f"http://{parts.netloc}") == 101
    assert answer("http://elsewhere.example") == 403


def test_no_port_is_free(monkeypatch):
    monkeypatch.setattr(app, "TRIED", 1)
    with socket.socket() as taken:
        taken.bind((app.HOST, 0))
        with pytest.raises(ConfigError, match="no port from"):
            app.free_port(taken.getsockname()[1])
