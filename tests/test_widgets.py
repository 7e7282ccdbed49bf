"""The switcher's page as a browser would see it, and the explorer with a run that we know the answers of."""

import re
from html.parser import HTMLParser
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
from PIL import Image

from neurovl import widgets


def red(size: int = 200) -> Image.Image:
    return Image.new("RGB", (size, size), (200, 30, 30))


class Page(HTMLParser):
    """Tags with their attributes."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict]:
        return [attrs for name, attrs in self.tags if name == tag]


def test_switcher_has_a_button_and_a_rule_for_every_panel():
    text = widgets.switcher({"a": "<p>first</p>", "b": red()}, "Letter", "A caption", start=1).data
    page = Page(text)
    inputs, labels = page.all("input"), page.all("label")
    assert [x["type"] for x in inputs] == ["radio", "radio"]
    assert [x["for"] for x in labels] == [x["id"] for x in inputs]
    assert len({x["name"] for x in inputs}) == 1
    assert ["checked" in x for x in inputs] == [False, True]
    for number, button in enumerate(inputs):
        assert f"#{button['id']}:checked ~ .panels > .panel{number} {{display: block" in text
    assert "<figcaption>A caption</figcaption>" in text


def test_switcher_needs_no_script_and_nothing_from_elsewhere():
    text = widgets.switcher({"a": red(), "b": red(9)}, "Picture", thumbnails=[red(), red()]).data
    page = Page(text)
    assert not page.all("script") and not page.all("link") and "http" not in text
    assert all(image["src"].startswith("data:image/jpeg;base64,") for image in page.all("img"))
    assert all("alt" in image for image in page.all("img"))


def test_switchers_do_not_share_ids_and_may_be_nested():
    inner = [widgets.switcher({"x": f"<p>{i}</p>", "y": "<p>y</p>"}, "Inner") for i in range(2)]
    text = widgets.switcher({"a": inner[0], "b": inner[1]}, "Outer").data
    ids = [x["id"] for x in Page(text).all("input")]
    assert len(ids) == len(set(ids)) == 6
    assert len({x["name"] for x in Page(text).all("input")}) == 3


def test_same_content_gives_the_same_page():
    make = lambda: widgets.switcher({"a": "<p>1</p>"}, "T").data  # noqa: E731
    assert make() == make()


def test_text_is_escaped():
    text = widgets.pairs({"<b>": "a & b"}) + widgets.switcher({"<i>": "<p></p>"}, "<u>", "<s>").data
    assert not re.search("<b>|<i>|<u>|<s>", text) and "a &amp; b" in text


def test_pictures_are_made_small():
    tag = Page(widgets.picture_tag(Image.new("RGB", (400, 200)), 'a "wide" one', 100)).all("img")[0]
    assert (tag["width"], tag["height"], tag["alt"]) == ("100", "50", 'a "wide" one')


def test_picture_table_has_a_row_for_each_name():
    page = Page(widgets.picture_table({"seen": [red()] * 3, "made": [red()] * 3}, ["a", "b", "c"]))
    assert len(page.all("tr")) == 3 and len(page.all("img")) == 6
    said = [image["alt"] for image in page.all("img")]
    assert said == ["seen, a", "seen, b", "seen, c", "made, a", "made, b", "made, c"]
    page = Page(widgets.picture_table({"seen": [red()] * 2}))
    assert [image["alt"] for image in page.all("img")] == ["seen, picture 1", "seen, picture 2"]


class Known:
    """A run that says what it was asked."""

    class store:
        tested = ["subj01", "subj02"]

    class recordings:
        image = staticmethod(lambda image_id: red())
        mask = staticmethod(lambda subject: np.ones((4, 4, 4), bool))

    has_captions = True

    def __init__(self):
        self.painted = []

    def test_images(self, subject):
        return ["17", "18"] if subject == "subj01" else ["99"]

    def categories(self, image_id):
        return ["dog"]

    def encode(self, subject, image_id):
        return subject, image_id

    def chat(self, z):
        return Talk(z)

    def prompt(self, z):
        return f"prompt {z[1]}"

    def reconstructor(self):
        def paint(z, prompt, beta):
            self.painted.append((*z, prompt, beta))
            return Image.new("RGB", (64, 64))

        return paint

    def locate(self, concept, subject):
        heat = nibabel.Nifti1Image(np.ones((4, 4, 4), np.float32), np.eye(4))
        return SimpleNamespace(to_nifti=lambda: heat)


class Talk:
    """A chat that counts its turns, and is sure of none."""

    def __init__(self, z):
        self.z, self.turns, self.verdicts = z, 0, []

    def stream(self, question):
        self.turns += 1
        yield " ".join(self.z)
        yield f" <{question}> turn {self.turns}"


def controls(box) -> dict:
    found = {}
    for child in box.children:
        if hasattr(child, "children"):
            found |= controls(child)
        elif getattr(child, "description", ""):
            found[child.description] = child
    return found


@pytest.fixture
def run():
    return Known()


@pytest.fixture
def app(run):
    return widgets.explorer(run, beta=0.5, question="What?")


def texts(box) -> str:
    return " ".join(texts(c) if hasattr(c, "children") else text_of(c) for c in box.children)


def text_of(widget) -> str:
    """What a widget says; a picture's bytes, whose place in memory may have any digits, say nothing."""
    value = getattr(widget, "value", "")
    return "" if isinstance(value, memoryview | bytes) else str(value)


def test_explorer_starts_with_an_answer_and_a_prompt(app):
    assert "subj01 17 &lt;What?&gt;" in texts(app) and "prompt 17" in texts(app)


def test_explorer_follows_its_controls(app, run):
    found = controls(app)
    found["subject"].value = "subj02"
    assert found["picture"].value == "99" and "prompt 99" in texts(app)
    assert "17" not in texts(app)  # another brain, another talk
    found["question"].value = "Why?"
    found["ask"].click()
    assert "subj02 99 &lt;Why?&gt;" in texts(app)
    found["with the language model's prompt"].value = False
    assert "no prompt" in texts(app)
    found["beta"].value = 0.8
    assert run.painted[0] == ("subj01", "17", "prompt 17", 0.5)
    assert run.painted[-1] == ("subj02", "99", "", 0.8)


def test_explorer_goes_on_with_the_talk_about_a_brain(app):
    found = controls(app)
    found["ask"].click()
    assert "turn 2" in texts(app)
    found["picture"].value = "18"
    found["ask"].click()
    assert "subj01 18 &lt;What?&gt; turn 1" in texts(app)
    found["picture"].value = "17"
    found["ask"].click()
    assert "subj01 17 &lt;What?&gt; turn 3" in texts(app)


def test_explorer_locates_what_the_picture_holds(app):
    found = controls(app)
    assert found["concept"].value == "dog"
    found["locate"].click()
    assert "heatmap of dog in subj01" in texts(app)
