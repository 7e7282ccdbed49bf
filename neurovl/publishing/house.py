"""The list of files of the package, as a page shows it: each with the first sentence of its docstring."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def files() -> dict[str, str]:
    """Modules by their path in the package, and what each says that it is for; a room's own words stand at its folder."""
    said = {}
    for path in sorted(
        PACKAGE.rglob("*.py"), key=lambda p: (p.parent.parts, p.name != "__init__.py", p.name)
    ):
        place = path.relative_to(PACKAGE)
        name = f"{place.parent.as_posix()}/" if path.name == "__init__.py" else place.as_posix()
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        said[name.replace("./", "neurovl/", 1)] = " ".join(text.split("\n\n")[0].split())
    return said


def file_list() -> str:
    """The list as Markdown, folders in bold with their files below."""
    lines = []
    for name, text in files().items():
        mark = "**" if name.endswith("/") else ""
        lines.append(f"{'' if mark else '  '}- {mark}`{name}`{mark} {text}")
    return "\n".join(lines) + "\n"
