"""Interactive parts of the notebooks: a switcher that needs neither kernel nor script, and the live explorer.

A published page keeps working where nothing but HTML and CSS is to be had: the switcher is a group of radio buttons and
the panel of the chosen one. The explorer is made of ipywidgets and needs a running kernel. Left out: static figures.
"""

import base64
import html
import io
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from neurovl.figures import heat_slices
from neurovl.figures.page_tables import Html
from neurovl.run import Run

if TYPE_CHECKING:
    from ipywidgets import VBox
    from matplotlib.figure import Figure
    from PIL.Image import Image

_STYLE = """
#{id} {{margin: 0; color: inherit}}
#{id} > fieldset {{border: 1px solid #7a7f8a55; border-radius: 8px; padding: .6rem .9rem .9rem;
  margin: 0; min-width: 0}}
#{id} > fieldset > legend {{font-size: .95rem; font-weight: 600; padding: 0 .4rem; margin: 0;
  float: none; width: auto}}
#{id} > fieldset > input {{position: absolute; opacity: 0; width: 1px; height: 1px}}
#{id} > fieldset > label {{display: inline-block; padding: .25rem .65rem; margin: 0 .3rem .35rem 0; font-size: .9rem;
  border: 1px solid #7a7f8a; border-radius: 6px; cursor: pointer; vertical-align: top; max-width: 100%}}
#{id} > fieldset > label img {{display: block; width: 72px; border-radius: 4px; margin: .1rem auto}}
#{id} > fieldset > input:checked + label {{background: #0072B2; border-color: #0072B2; color: #fff}}
#{id} > fieldset > input:focus-visible + label {{outline: 3px solid #E69F00; outline-offset: 1px}}
#{id} > fieldset > .panels > div {{display: none; padding-top: .5rem; overflow-x: auto}}
#{id} img {{background: none; max-width: 100%; height: auto}}
#{id} > figcaption {{font-size: .9rem; padding: .5rem 0; color: inherit; opacity: .85}}
#{id} table {{border-collapse: collapse; margin: 0; font-size: .88rem}}
#{id} table td, #{id} table th {{padding: .2rem .3rem; text-align: center; border: 0; vertical-align: top; background: none; color: inherit}}
#{id} table th {{text-align: right; font-weight: 600; max-width: 6rem; vertical-align: middle}}
#{id} dl {{margin: 0; display: grid; grid-template-columns: max-content 1fr; gap: .25rem .9rem}}
#{id} dt {{font-weight: 600}} #{id} dd {{margin: 0}}
"""


def picture_tag(picture: "Image", alt: str, size: int = 128) -> str:
    """An HTML image of `size` pixels that carries its own data.

    Parameters
    ----------
    picture : PIL.Image
    alt : str
        What it shows, for those who do not see it.
    size : int
        Longest side in pixels; larger pictures are scaled down.
    """
    small = picture.convert("RGB")
    if max(small.size) != size:
        scale = size / max(small.size)
        small = small.resize([max(1, round(v * scale)) for v in small.size])
    data = base64.b64encode(_encoded(small, "JPEG")).decode()
    return (
        f'<img src="data:image/jpeg;base64,{data}" alt="{html.escape(alt, quote=True)}" '
        f'width="{small.width}" height="{small.height}" class="dark-light">'
    )


def figure_tag(figure: "Figure", alt: str) -> str:
    """An HTML image of a matplotlib figure with its transparent background."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight", transparent=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    return (
        f'<img src="data:image/png;base64,{data}" alt="{html.escape(alt, quote=True)}" '
        'class="dark-light">'
    )


def figure_switcher(
    figures: "dict[str, Figure | None]", title: str, alt: str, caption: str = ""
) -> Html | None:
    """A `switcher` of those figures that are there; None where none is.

    Parameters
    ----------
    figures : dict of str to matplotlib figure or None
        By the label of the button.
    title : str
        What is chosen.
    alt : str
        What each shows, before its label.
    caption : str
    """
    tags = {k: figure_tag(one, f"{alt}, {k}") for k, one in figures.items() if one is not None}
    return switcher(tags, title, caption) if tags else None


def picture_table(rows: dict[str, Sequence], below: Sequence[str] = (), size: int = 96) -> str:
    """HTML table of pictures, the name of each row at its left.

    Parameters
    ----------
    rows : dict of str to sequence of PIL.Image
    below : sequence of str
        A line under each column, which its pictures' alternative texts repeat.
    size : int
        Side of a picture in pixels.
    """
    lines = []
    for label, pictures in rows.items():
        columns = [*below, *(f"picture {i + 1}" for i in range(len(below), len(pictures)))]
        cells = [
            f"<td>{picture_tag(p, f'{label}, {column}', size)}</td>"
            for p, column in zip(pictures, columns, strict=False)
        ]
        lines.append(f'<tr><th scope="row">{html.escape(label)}</th>{"".join(cells)}</tr>')
    if below:
        cells = "".join(f'<td style="max-width:{size}px">{html.escape(t)}</td>' for t in below)
        lines.append(f"<tr><th></th>{cells}</tr>")
    return f"<table>{''.join(lines)}</table>"


def pairs(items: dict[str, str]) -> str:
    """HTML list of names and texts."""
    body = "".join(f"<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>" for k, v in items.items())
    return f"<dl>{body}</dl>"


def switcher(
    items: dict, title: str, caption: str = "", thumbnails: Sequence = (), start: int = 0
) -> Html:
    """Panels of which one is shown, chosen by radio buttons: works in a published page with no kernel and no script.

    The keyboard reaches it: Tab to the group, arrow keys to change. Without CSS all panels are shown.

    Parameters
    ----------
    items : dict of str to str, PIL.Image or the result of another `switcher`
        Label of a button to HTML or picture of its panel.
    title : str
        What is chosen, above the buttons.
    caption : str
        Below the panels.
    thumbnails : sequence of PIL.Image, optional
        A small picture on each button.
    start : int
        The panel that is shown at first.

    Returns
    -------
    Html

    Examples
    --------
    >>> panels = neurovl.widgets.switcher({"a": "<p>one</p>", "b": "<p>two</p>"}, "Letter")
    >>> panels.data.count("<input")
    2
    """
    contents = [_content(label, item) for label, item in items.items()]
    name = f"nv{zlib.crc32(repr((title, caption, contents)).encode()):08x}"
    pictures = [*thumbnails, *[None] * (len(items) - len(thumbnails))]
    buttons, panels, rules = [], [], [_STYLE.format(id=name)]
    for i, (label, content, picture) in enumerate(zip(items, contents, pictures, strict=True)):
        checked = " checked" if i == start else ""
        inner = (picture_tag(picture, "", 72) if picture is not None else "") + html.escape(label)
        buttons.append(
            f'<input type="radio" name="{name}" id="{name}-{i}"{checked}>'
            f'<label for="{name}-{i}">{inner}</label>'
        )
        panels.append(f'<div class="panel{i}">{content}</div>')
        rules.append(f"#{name}-{i}:checked ~ .panels > .panel{i} {{display: block !important}}")
    return Html(
        f'<figure id="{name}"><style>{" ".join(rules)}</style>'
        f"<fieldset><legend>{html.escape(title)}</legend>{''.join(buttons)}"
        f'<div class="panels">{"".join(panels)}</div></fieldset>'
        + (f"<figcaption>{html.escape(caption)}</figcaption>" if caption else "")
        + "</figure>"
    )


def _content(label: str, item: object) -> str:
    if isinstance(item, str):
        return item
    return item.data if hasattr(item, "data") else picture_tag(item, label)


def _encoded(picture: "Image", kind: str) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **({"quality": 85} if kind == "JPEG" else {}))
    return buffer.getvalue()


def explorer(run: Run, beta: float = 0.93, question: str = "What is in the picture?") -> "VBox":
    """The live explorer: pick subject and picture, ask, paint with any beta, locate what is in the picture.

    Parameters
    ----------
    run : Run
        With its data and a trained language model.
    beta : float
        Noise strength at the start.
    question : str
        The question at the start.

    Returns
    -------
    ipywidgets.VBox
    """
    import ipywidgets as w

    talks: dict = {}
    subject = w.Dropdown(options=run.store.tested, description="subject")
    image = w.Dropdown(options=run.test_images(subject.value), description="picture")
    strength = w.FloatSlider(
        value=beta, min=0, max=1, step=0.01, description="beta", continuous_update=False
    )
    worded = w.Checkbox(value=True, description="with the language model's prompt", indent=False)
    asked = w.Text(value=question, description="question", layout={"width": "28rem"})
    concept = w.Dropdown(description="concept")
    ask, paint, locate = (
        w.Button(description=t, button_style="info") for t in ("ask", "paint", "locate")
    )
    seen, made = (w.Image(width=256, height=256, format="png") for _ in range(2))
    heat = w.HTML()  # empty until a concept is located
    prompt, talk = w.HTML(), w.HTML()

    def show_seen(_=None) -> None:
        seen.value = _encoded(run.recordings.image(image.value).resize((256, 256)), "PNG")
        concept.options = run.categories(image.value)
        concept.index = 0 if concept.options else None
        talk.value = heat.value = ""
        on_paint()

    def change_subject(_) -> None:
        image.options = run.test_images(subject.value)

    def on_ask(_=None) -> None:
        brain = subject.value, image.value
        if brain not in talks:  # the earlier turns about a brain are remembered
            talks[brain] = run.chat(run.encode(*brain))
        before, said = talk.value, f"<p><b>{html.escape(asked.value)}</b><br>"
        for piece in talks[brain].stream(asked.value):
            said += html.escape(piece)
            talk.value = f"{before}{said}</p>"
        for verdict in talks[brain].verdicts[-1:]:
            talk.value = f"{before}{said} <i>[{verdict}]</i></p>"

    def on_paint(_=None) -> None:
        z = run.encode(subject.value, image.value)
        words = run.prompt(z) if worded.value else ""
        prompt.value = f"prompt: “{html.escape(words)}”" if words else "no prompt"
        picture = run.reconstructor()(z, prompt=words, beta=strength.value)
        made.value = _encoded(picture.resize((256, 256)), "PNG")

    def on_locate(_=None) -> None:
        if concept.value is not None:
            found = run.locate(concept.value, subject.value)
            own = run.recordings.mask(subject.value)
            figure = heat_slices({concept.value: found.to_nifti()}, own)
            heat.value = figure_tag(figure, f"heatmap of {concept.value} in {subject.value}")

    subject.observe(change_subject, "value")
    image.observe(show_seen, "value")
    strength.observe(on_paint, "value")
    worded.observe(on_paint, "value")
    for button, act in ((ask, on_ask), (paint, on_paint), (locate, on_locate)):
        button.on_click(act)
    show_seen()
    on_ask()
    titled = [
        w.VBox([w.HTML(f"<b>{t}</b>"), i])
        for t, i in (("seen", seen), ("painted from the brain", made))
    ]
    parts = [
        w.HBox([subject, image]),
        w.HBox(titled),
        w.HBox([strength, paint, worded]),
        prompt,
        w.HBox([asked, ask]),
        talk,
    ]
    if run.has_captions:
        parts += [w.HBox([concept, locate]), heat]
    return w.VBox(parts)
