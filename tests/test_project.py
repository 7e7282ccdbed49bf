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

from neurovl.doctor.packages import EXTRAS
from neurovl.errors import ConfigError
from neurovl.publishing import book
from neurovl.publishing import checks as book_checks

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "neurovl").rglob("*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PARAMETERS = {"run": "str", "profile": "str | None", "data": "str | None"}
PARAMETERS |= {"seed": "int | None", "device": "str | None"}  # all notebooks of a run begin so


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def cells(notebook: Path, kind: str) -> list[dict]:
    return [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == kind]


def tree() -> dict[str, str]:
    """The README's list of files as path -> what it says."""
    block = re.search(r"```\n(neurovl/\n.*?)```", (ROOT / "README.md").read_text(), re.S)[1]
    found, folders = {}, []
    for line in block.splitlines():
        name, _, text = line.strip().partition(" ")
        depth = (len(line) - len(line.lstrip())) // 2
        folders[depth:] = [name] if name.endswith("/") else []
        found["".join(folders[:depth]) + name] = text.strip()
    return found


def test_every_module_stands_in_the_readme_and_no_other():
    listed = {path for path in tree() if path.endswith(".py")}
    there = {named(path) for path in MODULES if path.name != "__init__.py"}
    assert listed == there


def test_every_line_of_the_readme_tree_says_something():
    assert [path for path, text in tree().items() if path != "neurovl/" and not text] == []


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
