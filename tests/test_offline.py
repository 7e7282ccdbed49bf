"""The book shows its formulas, widgets and 3-D views where there is no network, and one that needs a network is refused."""

import json
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import nbformat
import numpy as np
import pytest
from browser import chromium

from neurovl.errors import ConfigError, NeurovlError
from neurovl.publishing import book, book_checks
from neurovl.publishing.loads import network_loads
from neurovl.publishing.offline import mathml
from neurovl.run import write_record
from neurovl.settings.sections import Profile

ROOT = Path(__file__).parents[1]
NS = "{http://www.w3.org/1998/Math/MathML}"
PAGE = r"""# A book on $\beta$

```{include} gallery.md
```

Where $\hat y_i$ is,

$$
s = \frac{1}{n-1} \sum_{j \ne i} x_j .
$$
"""


def shape(tex: str, display: bool = False) -> list:
    """A formula as nested lists of names and texts, rows of one thing left out."""

    def walk(node: ET.Element) -> list | str:
        parts = [walk(child) for child in node]
        name = node.tag.removeprefix(NS)
        if name == "mrow" and len(parts) == 1:
            return parts[0]
        return [name, *parts] if parts else node.text

    return walk(ET.fromstring(mathml(tex, display)))


def test_formulas_are_built_as_tex_means_them():
    assert shape(r"\hat y_i") == ["math", ["msub", ["mover", "y", "^"], "i"]]
    assert shape(r"\frac{a}{b_1}") == ["math", ["mfrac", "a", ["msub", "b", "1"]]]
    assert shape(r"\sqrt{R}") == ["math", ["msqrt", "R"]]
    assert shape(r"\beta") == ["math", "β"]
    assert shape(r"\mathcal{N}") == ["math", "𝒩"]
    assert ET.fromstring(mathml("x", display=True)).get("display") == "block"
    assert ET.fromstring(mathml("x")).get("display") == "inline"


@pytest.mark.parametrize(
    ("tex", "why"),
    [
        (r"\nosuch x", "nosuch"),
        (r"\begin{aligned} a &= b \\ c &= d \end{aligned}", "& outside an array"),
        (r"\mathcal U(0, 1)", "letters in script"),
        (r"\frac{1}", "mfrac holds 1 parts, expected 2"),
    ],
)
def test_formulas_that_would_be_shown_wrong_are_refused(tex, why):
    with pytest.raises(ConfigError, match=why) as refused:
        mathml(tex)
    assert repr(tex) in str(refused.value)


AFAR = "https://cdn.example.org/x"
LOADING = [
    f'<script src="{AFAR}.js"></script>',
    f'<script data-jupyter-widgets-cdn="{AFAR}/" src="a.js"></script>',
    f'<link rel="stylesheet" href="{AFAR}.css">',
    f'<link rel="preload" as="font" href="{AFAR}.woff2">',
    f'<img src="{AFAR}.png">',
    f'<img srcset="a.png 1x, {AFAR}.png 2x">',
    f'<iframe src="{AFAR}"></iframe>',
    f'<p style="background: url({AFAR}.png)">.</p>',
    f"<style>@font-face {{src: url('{AFAR}.woff2')}}</style>",
    f'<style>@import "{AFAR}.css";</style>',
    f'<script type="module">import x from "{AFAR}.js"</script>',
    f"<script>const THEBE_JS_URL = '{AFAR}.js'</script>",
    f'<script>fetch("{AFAR}.json")</script>',
    # a widget whose script is taken from elsewhere, as the state of a page holds it
    '<script type="application/vnd.jupyter.widget-state+json">'
    + json.dumps({"_esm": f'import x from "{AFAR}.js"'})
    + "</script>",
    '<link rel="stylesheet" href="near.css">',
    '<script src="near.js?v=3"></script>',
]
NOT_LOADING = [
    f'<a href="{AFAR}">x</a>',
    f'<link rel="canonical" href="{AFAR}">',
    f"<p>see {AFAR}</p><pre>import x from '{AFAR}'</pre>",
    '<img src="data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7">',
    f'<script>// see {AFAR}\nconst help = "{AFAR}";</script>',
    '<svg xmlns="http://www.w3.org/2000/svg"></svg>',
    '<script src="good.js"></script><link rel="stylesheet" href="good.css">',
]


@pytest.fixture
def page(tmp_path):
    """Writes a page with a body, beside a script and a style that load and others that do not."""
    (tmp_path / "near.css").write_text('@import url("deep.css");')
    (tmp_path / "deep.css").write_text(f"@font-face {{src: url({AFAR}.woff)}}")
    (tmp_path / "near.js").write_text(f'import("{AFAR}.js")')
    (tmp_path / "good.js").write_text(f'import("./a.js"); // {AFAR}')
    (tmp_path / "good.css").write_text('p {background: url("data:image/gif;base64,R0")}')

    def write(body: str) -> Path:
        path = tmp_path / "index.html"
        path.write_text(f"<p id='top'>.</p>{body}")
        return path

    return write


@pytest.mark.parametrize("body", LOADING)
def test_whatever_a_page_loads_from_a_network_is_found(page, body):
    (found,) = network_loads(page(body))
    assert found.startswith(AFAR)


@pytest.mark.parametrize("body", NOT_LOADING)
def test_what_a_reader_follows_is_not_loaded(page, body):
    assert network_loads(page(body)) == []


def test_a_page_that_loads_from_a_network_is_a_fault_of_the_book(page):
    path = page(LOADING[0])
    assert book_checks.check_book(path.parent) == [f"index.html loads from a network: {AFAR}.js"]
    page("")
    assert book_checks.check_book(path.parent) == []


def view(widget) -> nbformat.NotebookNode:
    """A cell that showed a widget."""
    data = {"application/vnd.jupyter.widget-view+json": widget.get_view_spec(), "text/plain": "."}
    return nbformat.v4.new_code_cell(
        "show", outputs=[nbformat.v4.new_output("display_data", data=data)]
    )


def widgets_page(folder: Path) -> nbformat.NotebookNode:
    """An executed page: a box of ipywidgets, an anywidget, and a volume in 3-D."""
    import anywidget
    import ipywidgets as w
    import nibabel
    import traitlets
    from ipyniivue import NiiVue
    from ipywidgets.embed import embed_data

    class Doubled(anywidget.AnyWidget):
        _esm = "export default { render({ model, el }) { el.className = 'doubled'; el.textContent = 2 * model.get('n'); } };"
        n = traitlets.Int(21).tag(sync=True)

    ball = (np.linalg.norm(np.mgrid[-8:9, -8:9, -8:9], axis=0) < 6).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(ball, np.eye(4)), folder / "ball.nii")
    brain = NiiVue(height=200)
    brain.load_volumes([{"path": folder / "ball.nii"}])
    box = w.VBox([w.FloatSlider(value=0.93, max=1, step=0.01), w.HTML("<b>seen</b>")])
    shown = [box, Doubled(), brain]
    state = embed_data(views=shown, drop_defaults=False)["manager_state"]
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell("# Widgets"), *map(view, shown)]
    )
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "python"}
    notebook.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": state}
    return notebook


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The project's configuration and style with a page of formulas and a run with a page of widgets."""
    root = tmp_path_factory.mktemp("site")
    (root / "book").mkdir()
    shutil.copy(ROOT / "_config.yml", root)
    shutil.copytree(ROOT / "book" / "_static", root / "book" / "_static")
    shutil.copy(ROOT / "book" / "references.bib", root / "book")
    (root / "book" / "index.md").write_text(PAGE)
    (root / "book" / "_toc.yml").write_text(
        "format: jb-book\nroot: index\nparts:\n- caption: All\n  chapters:\n  - file: notebooks/08_explore\n"
    )
    run = root / "runs" / "tiny"
    facts = {"data": "simulated-nsd", "simulated": True, "folds": 1}
    write_record(run, Profile("smoke"), "../data", facts)
    (run / "book" / "notebooks").mkdir(parents=True)
    nbformat.write(widgets_page(root), run / "book" / "notebooks" / "08_explore.ipynb")
    return root


@pytest.fixture(scope="module")
def built(site) -> Path:
    return book.build(site / "runs" / "tiny", root=site).parent


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


def test_a_formula_that_cannot_be_shown_stops_the_build(site, built):
    page = site / "book" / "index.md"
    page.write_text(PAGE + r"And $\nosuch x$.")
    try:
        with pytest.raises(NeurovlError, match=r"the formula .*nosuch x"):
            book.build(site / "runs" / "tiny", root=site)
    finally:
        page.write_text(PAGE)


def test_formulas_are_drawn_without_a_network(built, tab):
    tab.open((built / "index.html").as_uri())
    drawn = (
        "[...document.querySelectorAll('article math')].map(m => m.getBoundingClientRect().height)"
    )
    heights = tab.run(drawn)
    assert len(heights) == 3 and min(heights) > 5
    assert tab.run("document.title").startswith("A book on β")
    fraction = tab.run("document.querySelector('mfrac').getBoundingClientRect().height")
    letter = tab.run("document.querySelector('mfrac mi').getBoundingClientRect().height")
    assert fraction > 2 * letter  # one above the other
    assert "\\" not in tab.run("document.body.innerText") and tab.failed == []


def test_widgets_and_volumes_are_drawn_without_a_network(built, tab):
    tab.open((built / "notebooks" / "08_explore.html").as_uri())
    tab.wait("document.querySelector('.widget-readout')?.textContent == '0.93'")
    tab.wait("document.querySelector('.doubled')?.textContent == '42'")
    assert tab.run("document.querySelector('.widget-html b').textContent") == "seen"
    marks = "getComputedStyle(document.querySelector('.jupyter-widgets-disconnected'), '::before').content"
    assert tab.run(marks) == "none"
    tab.wait("document.querySelector('canvas')?.width > 0")
    assert tab.failed == [] and not [c for c in tab.complaints if "theme mode" not in c]


def test_without_the_scripts_beside_it_a_page_of_widgets_shows_none_and_says_so(
    built, tab, tmp_path
):
    broken = tmp_path / "html"
    shutil.copytree(built, broken)
    (broken / "_static" / "jupyter-widgets.js").unlink()
    tab.open((broken / "notebooks" / "08_explore.html").as_uri())
    assert not tab.run("document.querySelector('.widget-readout')")
    assert any("jupyter-widgets.js" in one for one in tab.complaints)
