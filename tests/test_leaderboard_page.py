"""What readers see of the comparison: tables in a browser, marks against the numbers put in, pages without a comparison."""

import ast
import html
import json
from dataclasses import fields
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import pytest
from browser import chromium
from made_up_board import DISTANCE, LEAK, SSIM, made_up

import neurovl
from neurovl import figures, widgets
from neurovl.baselines import registry
from neurovl.baselines.decoder import Card, Choice, Decoder
from neurovl.errors import DataError
from neurovl.evaluation.beside_paper import Basis
from neurovl.figures.board_tables import better
from neurovl.figures.cited_numbers import cited_table
from neurovl.figures.sortable import LESS, MORE
from neurovl.figures.system_cards import card_page
from neurovl.leaderboard.controls import COLUMNS as CONTROL_COLUMNS
from neurovl.leaderboard.generating import SAMPLE_COLUMNS
from neurovl.leaderboard.ours import CARDS
from neurovl.leaderboard.ranks import COMPARED, Standing
from neurovl.leaderboard.statements import Facts
from neurovl.publishing.notebooks import execute
from neurovl.results import paper_results, peer_results
from neurovl.settings.profile_files import load_profile

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
COMMANDS = {
    "15_leaderboard": "`neurovl compare --run RUN --systems all`",
    "16_controls": "`neurovl compare --run RUN --systems all --controls`",
}


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    return made_up(tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture(scope="module")
def without(tmp_path_factory):
    return made_up(tmp_path_factory.mktemp("runs") / "bare", compared=False)


# the tables of a run


def test_a_run_without_a_comparison_has_tables_without_rows(without):
    for name in ("leaderboard", "compared_systems", "compared_samples", "controls", "search"):
        table = getattr(without, name)
        assert len(table) == 0 and "system" in table.columns


def test_the_tables_have_the_columns_that_the_comparison_writes(without):
    assert set(without.leaderboard.columns) == {one.name for one in fields(Standing)}
    assert list(without.controls.columns) == CONTROL_COLUMNS
    assert list(without.compared_samples.columns) == SAMPLE_COLUMNS
    assert {one.name for one in fields(Facts)} < set(without.compared_systems.columns)


def test_what_is_a_name_is_read_as_text(tables):
    assert tables.leaderboard.verdict.isin(["", *COMPARED]).all()
    assert tables.compared_samples.image_id.tolist() == ["0", "1", "0", "1", "2"]
    assert tables.leaderboard.value.dtype == float


def test_a_table_of_another_version_is_refused(tmp_path):
    broken = made_up(tmp_path / "tiny")
    path = tmp_path / "tiny" / "leaderboard" / "controls" / "controls.csv"
    pd.read_csv(path).drop(columns="chance").to_csv(path, index=False)
    with pytest.raises(DataError, match="controls.csv has no column chance, .*neurovl compare"):
        _ = broken.controls


# the tables of the page


class Elements(HTMLParser):
    """Elements that begin and end in order, and what attributes they have."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.seen = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_table_is_well_formed_and_has_a_row_for_each_system_row_and_protocol(tables):
    made = figures.leaderboard_table(tables.leaderboard, tables.source).data
    parsed = Elements(made)
    assert parsed.open == []
    names = [about["data-name"] for tag, about in parsed.seen if tag == "table"]
    assert names == ["reconstruction", "caption", "retrieval"]
    kinds = [json.loads(a["data-kinds"]) for t, a in parsed.seen if "data-kinds" in a]
    rows = [one for one in kinds if "row" in one]
    assert len(rows) == 5 + 2 + 1 + 2 + 1  # average, single, as published; words; retrieval
    assert {"protocol": "average", "row": "as published"} in kinds
    assert "sentence" not in made and "picture, first of 100" in made
    assert html.escape(LEAK) in made and "the toy was not painted" in made


def test_a_note_of_every_row_stands_once(tables):
    board = tables.leaderboard
    noted = ("split shared1000; " + board.note).str.removesuffix("; ")
    rows = board.assign(note=noted.where(board.value.notna(), board.note))
    made = figures.leaderboard_table(rows, "mine").data
    assert made.count("split shared1000") == 1 and "(mine; split shared1000)" in made
    assert made.count(html.escape(LEAK)) == 1 and made.count("note 1") == 1


def test_best_and_tied_are_said_in_words(tables):
    made = figures.leaderboard_table(tables.leaderboard, tables.source).data
    assert made.count(", best") == 2  # of each score of pictures one
    assert "rank 2 (1 to 3), tied with the best" in made  # ours, as the best is tied with it
    assert "rank 1 (1 to 2), best, tied" in made
    assert "rank 2 (1 to 3), undecided" in made and "rank 4 (3 to 5), worse" in made


@pytest.mark.parametrize(
    ("metric", "direction"),
    [("distance_swav", LESS), ("image_median_rank", LESS), ("objects_f1", MORE), ("bleu4", MORE)],
)
def test_directions_of_scores(metric, direction):
    assert better(metric) == direction


@pytest.fixture(scope="module")
def page(tables, tmp_path_factory):
    """Both tables on one page, and the same with no script."""
    made = figures.leaderboard_table(tables.leaderboard, tables.source).data
    made += figures.systems_table(tables.compared_systems, tables.source).data
    folder = tmp_path_factory.mktemp("page")
    for name, text in (("page", made), ("still", made.replace("<script>", "<script type='no'>"))):
        whole = f"<!doctype html><meta charset=utf-8><body>{text}"
        (folder / f"{name}.html").write_text(whole, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


SEEN = "[...document.querySelectorAll('figure:first-of-type table:not([hidden]) tbody tr:not([hidden])')]"
HEADS = "[...document.querySelectorAll('figure:first-of-type table:not([hidden]) thead th')]"


def shown(tab, cell: int = 0) -> list[str]:
    return tab.run(f"{SEEN}.map(row => row.cells[{cell}].querySelector('span').textContent)")


def head(title: str) -> str:
    return f"{HEADS}.find(one => one.dataset.title == '{title}').querySelector('button')"


def choose(tab, name: str, value: str) -> None:
    tab.run(
        f"(one => (one.value = '{value}', one.dispatchEvent(new Event('change'))))"
        f"(document.querySelector('figure:first-of-type select[name={name}]'))"
    )


def ordered(values: dict, down: bool) -> list[str]:
    """Names by value, those without at the end, by Python's own sort."""
    known = {k: v[0] for k, v in values.items() if v[0] is not None}
    return sorted(known, key=known.get, reverse=down) + [k for k in values if k not in known]


def test_a_press_on_a_head_sorts_and_missing_values_stay_last(page, tab):
    tab.open((page / "page.html").as_uri())
    assert shown(tab) == list(SSIM)
    assert set(shown(tab, 1)) == {"main"} and set(shown(tab, 2)) == {"average"}
    tab.click(head("SSIM"))
    assert shown(tab) == ordered(SSIM, down=True)  # more is better: the best first
    tab.click(head("SSIM"))
    assert shown(tab) == ordered(SSIM, down=False)
    assert shown(tab)[-1] == "toy"
    sorts = f"{HEADS}.map(one => one.getAttribute('aria-sort')).filter(Boolean)"
    assert tab.run(sorts) == ["ascending"]
    tab.click(head("distance, SwAV"))
    assert shown(tab) == ordered(DISTANCE, down=False)  # 10 comes after 2: numbers, not text
    tab.click(head("system"))
    assert shown(tab) == sorted(SSIM)
    assert tab.failed == [] and tab.complaints == []


def test_the_keyboard_sorts_and_filters(page, tab):
    tab.open((page / "page.html").as_uri())
    tab.run(f"{head('SSIM')}.focus()")
    for kind in ("keyDown", "keyUp"):
        about = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
        tab._call("Input.dispatchKeyEvent", type=kind, **about)
    assert shown(tab) == ordered(SSIM, down=True)
    said = "document.querySelector('figure [role=status]').textContent"
    assert tab.run(said) == "sorted by SSIM, descending"
    places = (
        "[...document.querySelectorAll('select, thead button, .scrolled')].map(e => e.tabIndex)"
    )
    assert set(tab.run(places)) == {0}


def test_filters_of_protocol_row_and_task(page, tab):
    tab.open((page / "page.html").as_uri())
    feet = "document.querySelectorAll('figure:first-of-type table:not([hidden]) tfoot tr:not([hidden]) span:first-child')"
    names = f"[...{feet}].filter(e => e.closest('th')).map(e => e.textContent)"
    assert tab.run(names) == ["true embedding", "chance of ours", "ceiling of ours"]  # not ranked
    choose(tab, "protocol", "single")
    assert shown(tab) == ["neurovl", "takagi"]
    choose(tab, "protocol", "average")
    choose(tab, "row", "as published")
    assert shown(tab) == ["brain-diffuser"]
    choose(tab, "protocol", "")
    choose(tab, "row", "")
    assert len(shown(tab)) == 7
    choose(tab, "table", "caption")
    assert shown(tab) == ["neurovl", "toy"]
    assert tab.run(names) == ["chance of ours", "ceiling of ours"]


def test_a_narrow_screen_scrolls_the_table_and_not_the_page(page, tab):
    tab.open((page / "page.html").as_uri(), width=390)
    assert tab.run("document.documentElement.scrollWidth <= 390")
    wide = "[...document.querySelectorAll('.scrolled')].map(e => e.scrollWidth > e.clientWidth)"
    assert tab.run(wide) == [True, True]


def test_without_scripts_every_row_is_there(page, tab):
    tab.open((page / "still.html").as_uri())
    assert len(shown(tab)) == 10 and not tab.run("document.querySelector('select')")


# figures


def marks(axis) -> dict[float, float]:
    """Where the marks of seaborn stand: place from the top -> value."""
    found = {}
    for collection in axis.collections:
        found |= {float(y): float(x) for x, y in np.asarray(collection.get_offsets())}
    return found


def labels(axis) -> list[str]:
    return [label.get_text() for label in axis.get_yticklabels()]


def lines(axis) -> list[tuple[float, float]]:
    """Ends of the intervals, from the top."""
    bars = [one for one in axis.lines if one.get_linestyle() == "-"]
    return [tuple(map(float, one.get_xdata())) for one in bars]


def test_ranks_stand_where_the_table_says(tables):
    figure = figures.rank_plot(tables.leaderboard, "reconstruction", source=tables.source)
    ssim, distance = figure.axes
    assert (ssim.get_title(), distance.get_title()) == ("SSIM", "distance, SwAV")
    names = labels(ssim)
    assert {names[int(y)]: x for y, x in marks(distance).items()} == {
        system: rank for system, (_, rank, _) in DISTANCE.items()
    }
    assert len(marks(ssim)) == 3  # one has no rank
    assert lines(distance) == [(max(1, r - 1), r + 1) for _, r, _ in DISTANCE.values()]
    assert names[0] == "neurovl"


def test_differences_stand_where_the_table_says(tables):
    figure = figures.difference_plot(tables.leaderboard, "reconstruction")
    ssim, distance = figure.axes
    names = labels(ssim)
    assert names == ["takagi", "brain-diffuser", "toy"]
    found = {names[int(y)]: x for y, x in marks(ssim).items()}
    assert found == {
        "takagi": pytest.approx(0.2 - 0.3),
        "brain-diffuser": pytest.approx(0.31 - 0.3),
    }
    assert "→" in ssim.get_xlabel() and "←" in distance.get_xlabel()
    legend = [text.get_text() for text in figure.legends[0].texts]
    assert legend == ["tied", "undecided", "worse"]


def test_a_control_stands_beside_the_own_score(tables):
    which = ["permuted", "mean brain"]
    about = (tables.controls, tables.leaderboard, which, "reconstruction")
    (axis,) = figures.control_plot(*about).axes
    assert labels(axis) == ["neurovl", "takagi"]
    drawn = [one for one in axis.lines if one.get_marker() in "os^"]
    own, permuted, mean = (
        sorted(float(one.get_xdata()[0]) for one in drawn if one.get_marker() == mark)
        for mark in "os^"
    )
    assert (own, permuted, mean) == ([0.2, 0.3], [0.1, 0.1], [0.12, 0.12])
    filled = {one.get_marker() for one in drawn if one.get_markerfacecolor() != "none"}
    assert filled == {"o"}
    chance = [one for one in axis.lines if one.get_linestyle() == ":"]
    assert {float(x) for one in chance for x in one.get_xdata()} == {0.1}


def test_curves_begin_at_the_own_score(tables):
    about = (tables.controls, tables.leaderboard, "noise", "reconstruction")
    (axis,) = figures.control_curves(*about).axes
    curves = {one.get_label(): one for one in axis.lines}
    assert set(curves) == {"neurovl", "takagi", "chance"}
    assert curves["neurovl"].get_xdata().tolist() == [0, 0.5, 2]
    assert curves["neurovl"].get_ydata().tolist() == pytest.approx([0.3, 0.2, 0.1])
    assert curves["takagi"].get_ydata().tolist() == pytest.approx([0.2, 0.1, 0.05])


def test_novelty_is_drawn_about_0(tables):
    (axis,) = figures.novelty_plot(tables.controls, "reconstruction").axes
    drawn = {
        float(o.get_ydata()[0]): float(o.get_xdata()[0])
        for o in axis.lines
        if o.get_marker() == "o"
    }
    assert drawn == {0: pytest.approx(-0.2), 1: pytest.approx(-0.1)}
    assert "←" in axis.get_xlabel()


def test_the_wall_has_ours_first_and_only_pictures_that_all_painted(tables):
    figure = figures.picture_wall(tables, SimpleNamespace(has_images=False))
    assert len(figure.axes) == 3 * 2
    assert [axis.get_ylabel() for axis in figure.axes[::2]] == ["seen", "neurovl", "takagi"]
    shades = [axis.images[0].get_array()[0, 0].tolist() for axis in figure.axes[2:]]
    assert shades == [[255, 0, 0]] * 2 + [[0, 0, 255]] * 2


def test_what_the_search_chose_is_ringed(tables):
    (axis,) = figures.search_plot(tables.search).axes
    rings = axis.collections[-1].get_offsets()
    assert np.asarray(rings).tolist() == [[0.6, 0], [0.6, 1]]
    table = figures.search_table(tables.search).set_index("system")
    assert table.trials.tolist() == [3, 3] and table.seconds.tolist() == [6, 6]
    assert table.settings["takagi"] == "alpha 10"
    assert table["best - worst"].tolist() == pytest.approx([0.2, 0.2])


def test_shares_of_the_ceiling_are_those_of_the_table(tables):
    table = figures.share_of_ceiling(tables.leaderboard).set_index("score")
    assert table.neurovl["reconstruction: SSIM"] == pytest.approx(0.3 / 0.8)
    assert np.isnan(table.toy["reconstruction: SSIM"])


def test_without_rows_there_is_no_figure(without):
    board, controls, task = without.leaderboard, without.controls, "reconstruction"
    made = [
        figures.leaderboard_table(board),
        figures.systems_table(without.compared_systems),
        figures.rank_plot(board, task),
        figures.difference_plot(board, task),
        figures.control_plot(controls, board, ["permuted"], task),
        figures.control_curves(controls, board, "noise", task),
        figures.novelty_plot(controls, task),
        figures.search_plot(without.search),
        figures.picture_wall(without, None),
        widgets.figure_switcher({task: None}, "Task", "x"),
    ]
    assert made == [None] * len(made)


# cards


class Toy(Decoder):
    """A system of somebody else's package."""

    name = "toy"
    card = Card(
        "A toy <b>",
        "Someone 2023",
        "https://example.org/toy",
        (
            Choice("map", "a large network", "a small one", "paper"),
            Choice("loss", "squares"),
            Choice("selection", "", "none", "chosen"),
        ),
        "statistics of the test pictures",
        ("its generator",),
    )

    def fit(self, voxels, targets, parts):
        return self

    def predict(self, voxels):
        return {}


def test_a_card_shows_every_choice_and_what_is_missing(tables, monkeypatch):
    group = [SimpleNamespace(name="toy", load=lambda: Toy)]
    monkeypatch.setattr(registry, "entry_points", lambda group: globals_of(group))
    globals_of = {registry.GROUP: group}.get
    systems = tables.compared_systems
    strange = systems.tail(1).assign(system="strange", title="Gone", lacking="a; b")
    made = figures.cards(pd.concat([systems, strange]), ["neurovl", "toy", "strange"]).data
    assert Elements(made.replace("<br>", "")).open == []
    assert made.count("<details") == 3 and "strange: Gone" in made
    assert html.escape(CARDS["neurovl"].choices[-1].here) in made
    assert "A toy &lt;b&gt;" in made and "<b>" not in made
    for cells in (
        ("map", "a large network", "a small one", "paper"),
        ("loss", "squares", "the same", "code"),
        ("selection", "not said", "none", "chosen"),
    ):
        first, *others = cells
        row = f'<tr><th scope="row">{first}</th>' + "".join(f"<td>{one}</td>" for one in others)
        assert row in made
    assert "statistics of the test pictures" in made and "its generator" in made
    assert 'href="https://example.org/toy"' in made and "alpha 100" in made


def test_every_system_of_the_package_has_a_card_that_can_be_shown():
    for name in registry.BUILT_IN:
        card = registry.find(name).card
        made = Elements(card_page(card))
        assert made.open == [] and sum(tag == "tr" for tag, _ in made.seen) == 1 + len(card.choices)
        assert len(card.choices) >= 4, name


# printed numbers


def test_printed_numbers_are_the_papers_and_carry_the_names_of_the_comparison():
    printed, peers = paper_results(), peer_results()
    peers = peers[peers.task != "retrieval"]
    renamed = printed.assign(system=printed.system.replace("sdrecon", "takagi"))
    expected = renamed[renamed.system.isin(registry.BUILT_IN)]
    key = ["system", "task", "protocol", "metric"]
    same = expected.set_index(key).value.sort_index()
    pd.testing.assert_series_equal(peers.set_index(key).value.sort_index(), same)
    assert set(peers.system) == set(registry.BUILT_IN)
    words = peers[(peers.task == "caption") & (peers.system != "unibrain")]
    assert (words.subjects == "subj01").all() and words.source.str.contains("BrainHub").all()
    assert peers.value.between(0, 1).all()


FOUR = ("subj01", "subj02", "subj05", "subj07")


@pytest.fixture
def nsd():
    """What a comparison on NSD with the paper's networks rests on."""
    paper = load_profile("paper")
    return Basis("nsd", "shared982", FOUR, 982, paper.models, paper.encoder)


def printed_rows(tables) -> pd.DataFrame:
    """The made-up board with NSD's number of pictures and a caption's score of subject 1."""
    board = tables.leaderboard.assign(n=982)
    words = board[(board.metric == "bleu4") & (board.system == "neurovl")]
    return pd.concat([board, words.assign(system="umbrae", subject="subj01", value=0.5)])


def test_a_printed_number_stands_beside_the_same_recordings(tables, nsd):
    made = cited_table(printed_rows(tables), nsd, "reconstruction").set_index("score")
    assert made.system.tolist() == ["brain-diffuser"] * 2
    assert made.row["SSIM"] == "as published" and made.here["SSIM"] == 0.4
    assert made.printed.to_dict() == {"SSIM": 0.356, "distance, SwAV": 0.423}
    (words,) = cited_table(printed_rows(tables), nsd, "caption").to_dict("records")
    assert (words["subject"], words["printed"]) == ("subj01", 0.1717)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"data": "simulated-nsd"}, "the data are simulated-nsd"),
        ({"subjects": FOUR[:2]}, "split shared982 of subj01, subj02"),
        ({"models": load_profile("demo").models}, "other metric networks"),
    ],
)
def test_where_something_differs_no_printed_number_stands(tables, nsd, changed, words):
    other = Basis(**{**vars(nsd), **changed})
    made = cited_table(printed_rows(tables), other, "reconstruction").set_index("score")
    assert np.isnan(made.printed["distance, SwAV"]) and words in made.note["distance, SwAV"]
    assert np.isnan(made.printed["SSIM"]) == ("models" not in changed)


def test_other_test_pictures_are_said(tables, nsd):
    made = cited_table(tables.leaderboard, nsd, "reconstruction")
    assert made.printed.isna().all() and set(made.note) == {"100 test pictures, there 982"}


# the notebooks


def told(name: str, run: SimpleNamespace, monkeypatch) -> list:
    """What the cells of a notebook show last, with a run in the place of that which it would start."""
    monkeypatch.setattr(neurovl, "start_run", lambda *given: run)
    monkeypatch.setattr(Basis, "of", lambda run: run.basis)
    shared, shown = {}, []
    for cell in nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells:
        if cell.cell_type == "code":
            body = ast.parse(cell.source).body
            last = body.pop() if isinstance(body[-1], ast.Expr) else None
            exec(compile(ast.Module(body, []), name, "exec"), shared)
            if last is not None:
                shown.append(eval(compile(ast.Expression(last.value), name, "eval"), shared))
    return shown


def sentences(shown: list) -> list[str]:
    return [one.data for one in shown if one is not None]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_without_a_comparison_says_which_command_makes_it(name, without):
    page = execute(name, without.folder)
    cells = nbformat.read(page, as_version=4).cells
    assert len(cells) == 1 and COMMANDS[name] in cells[0].source
    title = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells[0].source
    assert cells[0].source.startswith(title.splitlines()[0])


@pytest.mark.parametrize("name", COMMANDS)
def test_the_notebook_itself_runs_without_a_comparison(name, without, monkeypatch):
    run = SimpleNamespace(tables=without, recordings=None)
    first, *others = sentences(told(name, run, monkeypatch))
    assert COMMANDS[name] in first
    assert [one for one in others if "<img" in one or "<table" in one] == []


def test_the_notebooks_show_a_comparison(tables, nsd, monkeypatch):
    board = tables.leaderboard
    known = set(board.system) & set(registry.BUILT_IN)
    monkeypatch.setattr("neurovl.figures.system_cards.find", lambda name: Toy)
    run = SimpleNamespace(tables=tables, recordings=SimpleNamespace(has_images=False), basis=nsd)
    shown = told("15_leaderboard", run, monkeypatch)
    assert (
        known and sum(one is None for one in shown) == 1
    )  # no rows as published have a difference
    assert (
        sum("<table" in text for text in sentences([s for s in shown if hasattr(s, "data")])) == 4
    )
    shown = told("16_controls", run, monkeypatch)
    pages = sentences([s for s in shown if hasattr(s, "data")])
    assert sum("<img" in one for one in pages) == 4  # brains, areas, noise, novelty
    assert [one for one in shown if one is None] == [None]  # no nearest training picture
    assert any("Not made here" in one for one in pages)
