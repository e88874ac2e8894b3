"""What the code of each kind of node was when its version was last looked at.

A kind's `version` is part of its cache key, so code that changes results under the same version would bring back stale
values. `nodes_snapshot.json` holds a digest of each kind's code: the class, and all functions of `nodes/` that it uses,
without comments and docstrings. When a test says that a kind has changed:

- if its results may differ, raise its `version`, then run `python -m tests.snapshot`;
- if they can't, accept the new code as it is: `python -m tests.snapshot NAME…`.
"""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from engine.node import Node
from nodes import registry

ROOT = Path(__file__).parents[1]
SNAPSHOT = Path(__file__).with_name("nodes_snapshot.json")

Definition = tuple[str, str]
"""A module's dotted name, and a name that it defines; "*" for all of them."""


def current() -> dict[str, dict[str, Any]]:
    """Version and digest of every kind there is, by name."""
    kinds = registry()
    return {name: {"version": kinds[name].spec.version, "digest": digest(kinds[name])} for name in sorted(kinds)}


def recorded() -> dict[str, dict[str, Any]]:
    """What `current` was when the snapshot was last renewed."""
    known: dict[str, dict[str, Any]] = json.loads(SNAPSHOT.read_text()) if SNAPSHOT.exists() else {}
    return known


def changed(now: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The kinds whose code is no longer what was recorded for their version; `now` is `current`."""
    then = recorded()
    return [name for name, kind in now.items() if name in then and _is_changed(kind, then[name])]


def _is_changed(now: Mapping[str, Any], then: Mapping[str, Any]) -> bool:
    return bool(now["version"] == then["version"] and now["digest"] != then["digest"])


def digest(kind: type[Node]) -> str:
    """A digest of a class and of what it uses of `nodes/`, however deep."""
    reached = {(kind.__module__, kind.__name__)}
    waiting = list(reached)
    while waiting:
        found = set(_used(*waiting.pop())) - reached
        reached |= found
        waiting += found
    code = "\n".join(f"{module} {name} {_plain(_definitions(module).get(name))}" for module, name in sorted(reached))
    return hashlib.sha256(code.encode()).hexdigest()[:16]


@cache
def _tree(module: str) -> ast.Module:
    path = ROOT.joinpath(*module.split("."))
    return ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text())


@cache
def _definitions(module: str) -> dict[str, ast.stmt]:
    """The statements that define a module's own names."""
    found: dict[str, ast.stmt] = {}
    for statement in _tree(module).body:
        match statement:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.AnnAssign(target=ast.Name(id=name)):
                found[name] = statement
            case ast.Assign(targets=targets):
                found |= {target.id: statement for target in targets if isinstance(target, ast.Name)}
    return found


def _used(module: str, name: str) -> Iterator[Definition]:
    """What a definition uses, of its own module and of others in `nodes/`."""
    own = _definitions(module)
    if name == "*":
        yield from ((module, other) for other in own)
        return
    if name not in own:  # imported into that module from another
        yield from _imported(_tree(module), {name})
        return
    names = {part.id for part in ast.walk(own[name]) if isinstance(part, ast.Name)}
    yield from ((module, other) for other in names & own.keys())
    yield from _imported(_tree(module), names)


def _imported(tree: ast.Module, names: set[str]) -> Iterator[Definition]:
    """The definitions in `nodes/` that those names are imported from, anywhere in the module."""
    for statement in ast.walk(tree):
        if isinstance(statement, ast.ImportFrom) and (statement.module or "").split(".")[0] == "nodes":
            for alias in statement.names:
                if (alias.asname or alias.name) in names:
                    inner = f"{statement.module}.{alias.name}"
                    is_module = ROOT.joinpath(*inner.split(".")).with_suffix(".py").exists()
                    yield (inner, "*") if is_module else (str(statement.module), alias.name)


def _plain(part: Any) -> str:
    """A syntax tree as text, the same in all versions of Python and however the source is laid out."""
    if isinstance(part, list):
        return f"[{','.join(_plain(item) for item in part if not _is_docstring(item))}]"
    if not isinstance(part, ast.AST):
        return repr(part)
    ignored = ("ctx", "kind", "type_comment", "type_params")
    fields = ((name, value) for name, value in ast.iter_fields(part) if name not in ignored)
    return f"{type(part).__name__}({','.join(f'{name}={_plain(value)}' for name, value in fields)})"


def _is_docstring(part: Any) -> bool:
    return isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant) and isinstance(part.value.value, str)


def main(accepted: list[str]) -> int:
    """Record the current code, but for kinds that changed under their version and are not accepted."""
    now, then = current(), recorded()
    refused = [kind for kind in changed(now) if kind not in accepted]
    SNAPSHOT.write_text(
        json.dumps({kind: then[kind] if kind in refused else now[kind] for kind in now}, indent=2) + "\n"
    )
    for kind in refused:
        print(f"{kind} has changed but is still version {now[kind]['version']}.")
    if refused:
        print(f"Raise the version, or, if results can't differ: python -m tests.snapshot {' '.join(refused)}")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
