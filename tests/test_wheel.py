"""The wheel is the whole product: what the tree holds, and a book far from any checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from neurovl.run import write_record
from neurovl.settings.profile_files import load_profile

pytest.importorskip("hatchling", reason="it comes with pip install -e '.[test]'")
ROOT = Path(__file__).parents[1]
PAGES = "neurovl/publishing/pages"


def pip(*arguments) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-cache-dir"]
    done = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--no-index", "--no-build-isolation", "-w", folder, ROOT)
    (made,) = folder.glob("neurovl-*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site-packages")
    pip("install", "--no-deps", "--no-index", "--target", folder, wheel)
    return folder


def run(installed: Path, cwd: Path, *arguments) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def tree(*parts: str) -> set[str]:
    """The files below folders of the checkout that belong to the project."""
    found = [path for part in parts for path in (ROOT / part).rglob("*") if path.is_file()]
    named = {path.relative_to(ROOT).as_posix() for path in found}
    return {name for name in named if "__pycache__" not in name and "/." not in name}


def test_the_wheel_holds_what_the_tree_holds(wheel):
    with zipfile.ZipFile(wheel) as archive:
        files = {name for name in archive.namelist() if ".dist-info/" not in name}
    tables = {name for name in tree("benchmarks") if name.endswith(".csv")}
    pages = {f"{PAGES}/{name}" for name in {*tree("book", "notebooks"), *tables, "_config.yml"}}
    assert files == tree("neurovl") | pages
    for needed in (
        "neurovl/py.typed",
        f"{PAGES}/notebooks/00_data.ipynb",
        f"{PAGES}/book/_toc.yml",
    ):
        assert needed in files


def test_the_installed_package_is_used_and_finds_its_own_pages(installed, tmp_path):
    code = (
        "import neurovl\n"
        "from neurovl.publishing.notebooks import find_root\n"
        "print(neurovl.__file__, find_root(), sep='\\n')"
    )
    done = run(installed, tmp_path, "-c", code)
    assert done.stdout.splitlines() == [
        str(installed / "neurovl" / "__init__.py"),
        str((installed / PAGES).resolve()),
    ], done.stderr


@pytest.mark.slow
def test_a_book_is_made_far_from_any_checkout(installed, tmp_path):
    folder = tmp_path / "runs" / "haxby"  # its book has one notebook, which needs no stage
    folder.mkdir(parents=True)
    about = {"data": "haxby", "simulated": False, "folds": 4}
    write_record(folder, load_profile("haxby", seed=3), "../../data", about)
    before = {path: path.stat().st_mtime_ns for path in (installed / PAGES).rglob("*")}
    done = run(installed, tmp_path, "-m", "neurovl", "book", "--run", "runs/haxby")
    assert done.returncode == 0, done.stderr
    index = folder / "book" / "html" / "index.html"
    assert done.stdout.splitlines()[-1] == f"wrote {index}" and index.is_file()
    page = (index.parent / "notebooks" / "09_real_brains.html").read_text()
    assert "Real brains" in page and "seed 3" in page
    executed = (folder / "book" / "notebooks" / "09_real_brains.ipynb").read_text()
    assert "neurovl download haxby" in executed and str(tmp_path) not in executed
    assert {path: path.stat().st_mtime_ns for path in (installed / PAGES).rglob("*")} == before
