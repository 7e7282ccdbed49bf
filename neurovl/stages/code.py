"""Which code a stage rests on: found from its function, definition by definition, so that no list can be forgotten.

A definition rests on the names in its body: definitions of its own module, and what it imports from this package, wherever
the import stands. Annotations, comments and docstrings compute nothing and do not count. Methods of `Run` count one by one:
a stage that says `run.store` rests on the token store and not on all that a run can do. What is reached is never too
little; `tests/test_code.py` runs stages and looks whether every function that was called had been found.
"""

import ast
import functools
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
NAME = PACKAGE.name
# Errors and messages, the keeping of stages, and the reading of settings: their values are in a key, their code is not.
NO_PART = ("errors", "settings", "stages", "files", "locks")
RUN = (f"{NAME}.run.run", "Run")

Definition = tuple[
    str, str
]  # module and name; an empty name stands for what a module does when it is imported


def code_hash(*functions: Callable) -> str:
    """SHA-256 over the definitions that functions of this package rest on, as they were when this process first looked.

    Parameters
    ----------
    *functions : callable
        Functions that do the work of a stage.
    """
    roots = tuple(
        (function.__module__, function.__qualname__.split(".")[0]) for function in functions
    )
    return _hash(roots)


@functools.cache
def _hash(roots: tuple[Definition, ...]) -> str:
    digest = hashlib.sha256()
    for module, name in sorted(reached(*roots)):
        text = "\n".join(ast.dump(_bare(node)) for node in _module(module).nodes(name))
        digest.update(f"{module}:{name}\n{len(text)}\n{text}\n".encode())
    return digest.hexdigest()


def reached(*roots: Definition) -> set[Definition]:
    """All definitions that some rest on, themselves included; modules outside this package and `NO_PART` left out."""
    found: set[Definition] = set()
    waiting = list(roots)
    while waiting:
        module, name = waiting.pop()
        if (module, name) in found or _module(module) is None:
            continue
        found.add((module, name))
        waiting.append((module, ""))
        waiting += _needs(module, name)
    return found


@dataclass
class _Module:
    """What a module defines and imports at its top."""

    name: str
    defined: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imported: dict[str, tuple[str, str]] = field(default_factory=dict)  # name -> module, name in it
    does: list[ast.stmt] = field(default_factory=list)

    def nodes(self, name: str) -> list[ast.AST]:
        """The statements that make up a definition, or a method of `Run` as 'Run.method'."""
        if not name:
            return self.does
        outer, _, inner = name.partition(".")
        nodes = self.defined.get(outer, [])
        if not inner:
            return nodes if (self.name, name) != RUN else []
        return [node for cls in nodes for node in _members(cls) if _named(node) == inner]


@functools.cache
def _module(name: str) -> _Module | None:
    """A module of this package by its name; None for others and for `NO_PART`."""
    package, _, inside = name.partition(".")
    if package != NAME or inside.split(".")[0] in NO_PART:
        return None
    place = PACKAGE.parent.joinpath(*name.split("."))
    files = [f for f in (place / "__init__.py", place.with_suffix(".py")) if f.is_file()]
    if not files:
        return None
    module = _Module(name)
    for node in ast.parse(files[0].read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            module.imported.update(_imports(node))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            module.defined.setdefault(node.name, []).append(node)
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            for target in _targets(node):
                module.defined.setdefault(target, []).append(node)
        elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            module.does.append(node)
    return module


def _targets(node: ast.stmt) -> Iterator[str]:
    for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
        yield from (one.id for one in ast.walk(target) if isinstance(one, ast.Name))


def _imports(node: ast.Import | ast.ImportFrom) -> dict[str, tuple[str, str]]:
    """What an import from this package makes known: name here -> module and name there."""
    if isinstance(node, ast.ImportFrom):
        if (node.module or "").split(".")[0] != NAME:
            return {}
        return {one.asname or one.name: (node.module, one.name) for one in node.names}
    own = [one for one in node.names if one.name.split(".")[0] == NAME]
    return {one.asname or NAME: (one.name if one.asname else NAME, "") for one in own}


def _needs(module: str, name: str) -> Iterator[Definition]:
    """The definitions that one rests on directly."""
    home = _module(module)
    room = RUN[0].rpartition(".")[0]
    sources = [module, *(place for place, _ in home.imported.values())]
    holds_run = any(place == room or place.startswith(f"{room}.") for place in sources)
    for node in map(_bare, home.nodes(name)):
        known = dict(home.imported)
        for part in ast.walk(node):
            if isinstance(part, ast.Import | ast.ImportFrom):
                known.update(_imports(part))
        whole = {id(part.value) for part in ast.walk(node) if isinstance(part, ast.Attribute)}
        for part in ast.walk(node):
            if isinstance(part, ast.Name):
                if part.id in home.defined:
                    yield module, part.id
                elif part.id in known and id(part) not in whole:
                    yield from _resolve(*known[part.id])
            elif isinstance(part, ast.Attribute):
                yield from _attribute(part, known, holds_run)
            elif isinstance(part, ast.ImportFrom) and (part.module or "").split(".")[0] == NAME:
                yield part.module, ""


def _attribute(
    node: ast.Attribute, known: dict[str, tuple[str, str]], holds_run: bool
) -> Iterator[Definition]:
    """What `a.b` rests on: a name of a module that was imported, else perhaps a method of `Run`."""
    place = known.get(node.value.id) if isinstance(node.value, ast.Name) else None
    if place is not None:
        module = ".".join(filter(None, place))
        if _module(module) is not None:
            yield from _resolve(module, node.attr)
        else:
            yield from _resolve(*place)
    # A room below `run` cannot hold a Run, so that its attributes are not taken for methods of one.
    if holds_run and node.attr in _run_methods():
        yield RUN[0], f"{RUN[1]}.{node.attr}"


@functools.cache
def _run_methods() -> frozenset[str]:
    run = _module(RUN[0])
    members = [] if run is None else _members(run.defined[RUN[1]][0])
    return frozenset(map(_named, members)) - {"stage"}  # how a stage is kept


def _resolve(module: str, name: str) -> Iterator[Definition]:
    """Where an imported name is defined; a module by itself stands for all that it defines."""
    below = f"{module}.{name}" if name else module
    home = _module(module)
    if name and home is not None and name in home.defined:
        yield module, name
    elif name and home is not None and name in home.imported:
        yield module, ""
        yield from _resolve(*home.imported[name])
    elif (whole := _module(below)) is not None:
        yield below, ""
        yield from ((below, one) for one in whole.defined)
        for place in whole.imported.values():
            yield from _resolve(*place)


def _members(cls: ast.ClassDef) -> Iterator[ast.stmt]:
    return (n for n in cls.body if isinstance(n, ast.FunctionDef | ast.AnnAssign | ast.Assign))


def _named(node: ast.stmt) -> str:
    return node.name if isinstance(node, ast.FunctionDef) else next(_targets(node), "")


@functools.cache
def _bare(node: ast.AST) -> ast.AST:
    """A definition without annotations and docstrings."""
    return _Bare().visit(ast.parse(ast.unparse(node)))


class _Bare(ast.NodeTransformer):
    def visit_arg(self, node: ast.arg) -> ast.arg:
        return ast.arg(node.arg)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        # Fields of a dataclass stay fields: their names count, and what they begin with.
        return ast.AnnAssign(
            node.target, ast.Constant(None), self.visit(node.value) if node.value else None, 1
        )

    def _definition(self, node: ast.AST) -> ast.AST:
        node.returns = None if hasattr(node, "returns") else None
        first = node.body[0]
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            node.body = node.body[1:] or [ast.Pass()]
        return self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._definition(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        first = node.body[0]
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            node.body = node.body[1:] or [ast.Pass()]
        return self.generic_visit(node)
