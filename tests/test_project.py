"""The project keeps its own rules: README tree, notebooks, sizes, imports, declared packages."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

import neurovl
from neurovl.doctor.packages import EXTRAS
from neurovl.errors import ConfigError
from neurovl.publishing import book, book_checks, house

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "neurovl").rglob("*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# All notebooks of a run begin so. Papermill overlooks a name whose type is `str | None`.
PARAMETERS = {"run": "str", "profile": "str", "data": "str", "seed": "int", "device": "str"}


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def cells(notebook: Path, kind: str) -> list[dict]:
    return [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == kind]


def rooms() -> dict[str, str]:
    """The README's list of rooms: name -> what it says."""
    block = re.search(r"```\nneurovl/\n(.*?)notebooks/", (ROOT / "README.md").read_text(), re.S)[1]
    lines = (line.strip().partition(" ") for line in block.splitlines())
    return {name.rstrip("/"): text.strip() for name, _, text in lines}


def test_every_room_stands_in_the_readme_in_the_order_of_its_imports():
    there = {path.parent.name for path in (ROOT / "neurovl").glob("*/__init__.py")}
    there |= {path.name for path in (ROOT / "neurovl").glob("[!_]*.py")}
    assert set(rooms()) == there and all(rooms().values())
    order = [name.removesuffix(".py") for name in rooms()]
    rank = {name: k for k, layer in enumerate(layers()) for name in layer}
    assert sorted(order) == sorted(set(rank) - {"__main__"})
    assert [rank[name] for name in order] == sorted(rank[name] for name in order)


def layers() -> list[list[str]]:
    """The rooms by layer, as pyproject.toml has them from the top."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    whole = next(one for one in contracts["contracts"] if one["containers"] == ["neurovl"])
    return [re.split(r" [|:] ", layer) for layer in whole["layers"]]


def test_every_room_says_what_it_is_for_and_what_it_may_import():
    for name in (name for name in rooms() if not name.endswith(".py")):
        said = ast.get_docstring(ast.parse((ROOT / "neurovl" / name / "__init__.py").read_text()))
        assert re.search(r"\b[Ii]mports?\b", said), name


def test_no_two_modules_have_one_name():
    names = [path.name for path in MODULES if path.name != "__init__.py"]
    assert sorted(names) == sorted(set(names))


def test_the_page_of_files_has_every_module_and_what_it_is_for():
    said = house.files()
    there = {path.relative_to(ROOT / "neurovl").as_posix() for path in MODULES}
    there = {name.replace("__init__.py", "") for name in there}
    assert set(said) - {"neurovl/"} == there - {""} and all(said.values())
    listed = house.file_list()
    assert all(f"`{name}`" in listed for name in said)


def test_links_of_the_readme_lead_somewhere():
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / "README.md").read_text())
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_ci_runs_the_readmes_test_command():
    assert "make test" in (ROOT / "README.md").read_text()
    commands = (ROOT / ".ci" / "run").read_text().splitlines()[1:]
    assert [line for line in commands if not re.match(r"set |cd ", line)] == ["make test"]


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_modules_are_short_and_say_what_they_do(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    assert not text.strip() or ast.get_docstring(ast.parse(text))


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_doctor_knows_every_extra_and_all_brings_them():
    extras = project()["optional-dependencies"]
    assert extras["all"] == [f"neurovl[{','.join(EXTRAS)}]"]
    assert {*EXTRAS} == {*extras} - {"all", "test"}


def test_what_is_imported_is_declared():
    extras = project()["optional-dependencies"]
    lines = [*project()["dependencies"], *(line for name in EXTRAS for line in extras[name])]
    declared = {re.match(r"[\w.-]+", line)[0].lower() for line in lines}
    declared = {re.sub(r"[._]", "-", name) for name in declared}
    homes = packages_distributions()
    missing = {}
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            for top in {name.split(".")[0] for name in names} - {"neurovl"}:
                if top in sys.stdlib_module_names:
                    continue
                owners = {re.sub(r"[._]", "-", name.lower()) for name in homes.get(top, [top])}
                if not owners & declared:
                    missing.setdefault(top, []).append(named(path))
    assert missing == {}


def test_import_is_light():
    heavy = ("torch", "transformers", "diffusers", "nilearn", "pandas", "matplotlib")
    code = f"import sys, neurovl; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


def test_import_is_instant():
    code = "import time; t = time.perf_counter(); import neurovl; print(time.perf_counter() - t)"
    command = [sys.executable, "-c", code]
    took = [float(subprocess.check_output(command, cwd=ROOT)) for _ in range(3)]
    assert min(took) < 0.3


def test_what_an_editor_offers_can_be_imported():
    for name in neurovl.__all__:
        assert getattr(neurovl, name).__name__.split(".")[-1] == name
    stub = ast.parse((ROOT / "neurovl" / "__init__.pyi").read_text())
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    # "import a as a" is how a stub says that a name is for others.
    offered = [one.asname for node in imports for one in node.names if one.asname == one.name]
    assert sorted(offered) == neurovl.__all__ == dir(neurovl)


def test_config_keys_are_known(tmp_path):
    book_checks.check_config(ROOT / "_config.yml")
    wrong = tmp_path / "_config.yml"
    wrong.write_text("title: A book\nhtml:\n  use_edit_page_buton: true\n")
    with pytest.raises(ConfigError, match="html.use_edit_page_buton"):
        book_checks.check_config(wrong)


def test_contents_name_every_page_and_notebook():
    toc = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    listed = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    pages = {path.stem for path in (ROOT / "book").glob("*.md")}
    assert {toc["root"], *listed} == pages | {f"notebooks/{name}" for name in book.NOTEBOOKS}


def test_notebooks_are_those_of_the_contents():
    assert [path.stem for path in NOTEBOOKS] == list(book.NOTEBOOKS)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=named)
def test_notebooks_carry_no_outputs(notebook):
    kernel = json.loads(notebook.read_text())["metadata"]["kernelspec"]
    assert (kernel["name"], kernel["language"]) == ("python3", "python")  # no one's private kernel
    for cell in cells(notebook, "code"):
        assert cell["outputs"] == [] and cell["execution_count"] is None


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=named)
def test_notebook_cells_are_short_and_prose_comes_first(notebook):
    assert json.loads(notebook.read_text())["cells"][0]["cell_type"] == "markdown"
    for cell in cells(notebook, "code"):
        assert len("".join(cell["source"]).splitlines()) <= 15


def parameters(notebook: Path) -> list[str]:
    """Lines of a notebook's parameters cell, of which there is one, folded on a page."""
    tags = [c["metadata"].get("tags", []) for c in cells(notebook, "code")]
    assert [sorted(t) for t in tags if "parameters" in t] == [["hide-input", "parameters"]]
    cell = next(c for c in cells(notebook, "code") if "parameters" in c["metadata"].get("tags", []))
    return [line for line in "".join(cell["source"]).splitlines() if line.strip()]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=named)
def test_notebook_parameters_have_types_and_help(notebook):
    lines = parameters(notebook)
    assert lines and [x for x in lines if not re.match(r"\w+: [\w\[\] |]+ = .+  # \w", x)] == []


OF_A_RUN = [path for path in NOTEBOOKS if path.stem != "11_models"]  # the models are the package's


@pytest.mark.parametrize("notebook", OF_A_RUN, ids=named)
def test_notebooks_begin_with_the_same_parameters(notebook):
    """`papermill NOTEBOOK out.ipynb -p run RUN -p profile paper -p data DIR` works with every one."""
    found = [re.match(r"(\w+): ([\w |]+) = ", line).groups() for line in parameters(notebook)[:5]]
    assert found == list(PARAMETERS.items())
    assert parameters(notebook)[1:5] == parameters(OF_A_RUN[0])[1:5]
