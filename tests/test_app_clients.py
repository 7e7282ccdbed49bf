"""The app with a browser, from click to picture, and with many clients at once: none reads another, none stays in memory."""

import re
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import nbformat
import psutil
import pytest
from browser import chromium

from neurovl.publishing import app

pytest.importorskip("voila")
pytest.importorskip("websocket")

TESTS = Path(__file__).parent
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
# The explorer itself on a run that paints in a colour of its own each time, and says what it was asked.
EXPLORER = f"""
import sys
sys.path[:0] = [{str(TESTS)!r}, {str(TESTS.parent)!r}]
from PIL import Image
from test_widgets import Known
from neurovl import widgets

class Painter(Known):
    def reconstructor(self):
        def paint(z, prompt, beta):
            self.painted.append(beta)
            return Image.new("RGB", (64, 64), (len(self.painted), 200, 30))
        return paint

widgets.explorer(Painter(), beta=0.5, question="What?")
"""


@pytest.fixture(scope="module")
def crowds():
    """The benchmark of the app, whose clients are the tests' as well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TESTS.parent / "benchmarks"))
        sys.modules.pop("app", None)
        import app as benchmark

        yield benchmark


def notebook(path: Path, source: str) -> Path:
    cell = nbformat.v4.new_code_cell(source)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=KERNEL), path)
    return path


def kernels(server) -> int:
    return len(psutil.Process(server.pid).children(recursive=True))


def wait(true, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.1)
    return true()


def test_a_browser_paints_asks_and_leaves(tmp_path):
    page = notebook(tmp_path / "page.ipynb", EXPLORER)
    colour = """(() => {{
        const canvas = document.createElement('canvas'), image = document.images[{}];
        canvas.width = canvas.height = 1;
        canvas.getContext('2d').drawImage(image, 0, 0, 1, 1);
        return [...canvas.getContext('2d').getImageData(0, 0, 1, 1).data.slice(0, 3)].join();
    }})()"""
    button = "[...document.querySelectorAll('button')].find(b => b.textContent.trim() == '{}')"
    with (
        app.serving(page, tmp_path, 9500) as (server, address),
        chromium(tmp_path / "browser") as tab,
    ):
        tab.open(address, seconds=120)
        tab.wait(f"document.images[1]?.complete && !!{button.format('paint')}")
        assert tab.run(colour.format(0)) == "200,30,30"  # what was seen
        assert tab.run(colour.format(1)) == "1,200,30"
        tab.click(button.format("paint"))
        tab.wait(f"{colour.format(1)} == '2,200,30'")
        said = "document.body.innerText.includes({!r})"
        assert tab.run(said.format("turn 1")) and not tab.run(said.format("turn 2"))
        tab.click(button.format("ask"))
        tab.wait(said.format("subj01 17 <What?> turn 2"))
        assert kernels(server) == 1 and tab.failed == []
        tab.run("location.href = 'about:blank'")
        assert wait(lambda: kernels(server) == 0, 20)


def test_one_more_than_there_are_places_is_told_so(tmp_path, crowds):
    page = crowds.light_notebook(tmp_path / "page.ipynb")
    with app.serving(page, tmp_path, 9500, places=1, left=1) as (server, address):
        first = crowds.Client(address)
        with pytest.raises(urllib.error.HTTPError) as refused:
            crowds.Client(address)
        text = re.sub(r"<[^>]+>|\s+", " ", refused.value.read().decode())
        assert refused.value.code == 503
        assert "all 1 places of this app are taken: close a page of it" in text
        assert kernels(server) == 1
        first.close()
        assert crowds.Client(address).kernel != first.kernel  # the place was given back
        # Who has the token sees no list of the others' kernels.
        with pytest.raises(urllib.error.HTTPError, match="403|404"):
            urllib.request.urlopen(address.replace("/?", "/api/kernels?"), timeout=60)


def test_clients_who_read_one_another_are_noticed(tmp_path, crowds):
    shared = crowds.LIGHT.replace(
        "def on_ask(_):\n    talk.value +=",
        "import pathlib\nbook = pathlib.Path('talk')\ndef on_ask(_):\n    talk.value = book.read_text() if book.exists() else ''\n    talk.value +=",
    ).replace('heard</p>"\n', 'heard</p>"\n    book.write_text(talk.value)\n', 1)
    page = notebook(tmp_path / "page.ipynb", shared)
    with app.serving(page, tmp_path, 9500, places=2) as (server, address):
        watch, _ = crowds.crowd(address, psutil.Process(server.pid), 2, 3)
    assert any("reads what client-" in fault for fault in watch.faults)


@pytest.mark.slow
def test_twenty_clients_have_a_kernel_and_a_talk_each_and_leave_nothing(tmp_path, crowds):
    page = crowds.light_notebook(tmp_path / "page.ipynb")
    with app.serving(page, tmp_path, 9500, places=20) as (process, address):
        server = psutil.Process(process.pid)
        after = []
        for seconds in (8, 1):
            watch, series = crowds.crowd(address, server, 20, seconds)
            assert watch.faults == [] and len(watch.kernels) == 20
            assert len(watch.waits["picture"]) >= 20
            assert max(n for _, _, n in series) <= 20
            full = [gb for _, gb, n in series if n == 20]
            assert full[-1] < 1.1 * full[len(full) // 2] + 0.05  # flat while they talk
            gb, left = crowds.emptied(server, 60)
            assert left == 0
            after.append(gb)
    assert after[1] < after[0] + 0.02  # a second crowd leaves no more than the first
