"""`kinograph new-pack`: writes a small working pack."""

from __future__ import annotations

import json
import keyword
import re
import sys
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from engine.cli.answering import answering
from engine.cli.groups import with_groups
from engine.cli.options import Printing
from engine.errors import UsageError

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
TAKEN = {"kinograph", "engine", "nodes", "models", "workflows", "tests"}
"""Names of packages that exist already, or that a pack's own tests would hide."""

FILES = {
    "pyproject.toml": """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "$name"
version = "0.1.0"
description = "Nodes for Kinograph."
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["kinograph"]

[project.optional-dependencies]
test = ["pytest"]

[project.entry-points."kinograph.nodes"]
$module = "$module.nodes"

[tool.setuptools]
packages = ["$module"]
""",
    "$module/__init__.py": "",
    "$module/nodes.py": '''\
"""The nodes of this pack. Import heavy libraries inside `run`, where they are used."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from kinograph import Context, Image, Node


class $kind(Node, version=1, category="$name"):
    """Make pictures brighter or darker."""

    images: Image
    """The pictures."""
    gain: Annotated[float, Field(ge=0, le=4)] = 1.2
    """The factor for every pixel."""

    def run(self, ctx: Context) -> Image:
        return Image((self.images.pixels * self.gain).clamp(0, 1))
''',
    "tests/test_nodes.py": """\
import torch

from $module.nodes import $kind
from kinograph import Context, Image


def test_pixels_are_multiplied_and_stay_in_range() -> None:
    made = $kind(images=Image(torch.tensor([0.25, 0.5, 0.75]).reshape(1, 3, 1, 1)), gain=2.0).run(Context())
    assert made.pixels.flatten().tolist() == [0.5, 1.0, 1.0]
""",
    "README.md": """\
# $name

Nodes for Kinograph.

    pip install -e ".[test]"
    kinograph nodes $kind
    pytest

Each subclass of `Node` in `$module/nodes.py` is a kind of node: its annotations are the sockets, limits and widgets,
its docstrings are the help. Raise `version` whenever a change of the code changes the result.
""",
    ".gitignore": """\
__pycache__/
*.egg-info/
build/
dist/
.venv/
""",
}


@with_groups
def new_pack(
    printing: Printing,
    name: Annotated[str, typer.Argument(help="The name of the pack: lower-case letters, digits and hyphens.")],
    folder: Annotated[
        Path | None,
        typer.Option("--dir", metavar="DIR", help="The folder to write to; by default the pack's name."),
    ] = None,
) -> None:
    """Create a pack of nodes: a package with one node and its test, ready to install."""
    with answering(printing):
        files = [str(path) for path in written(name, folder or Path(name))]
        print(json.dumps({"files": files}) if printing.as_json else "\n".join(files))


def written(name: str, folder: Path) -> list[Path]:
    """Write a pack's files into a folder, which is created if it doesn't exist; returns their paths.

    Raises:
        UsageError: the name isn't valid, or is that of something installed, or the folder isn't empty.
    """
    module = name.replace("-", "_")
    if not NAME.fullmatch(name):
        hint = "use lower-case letters, digits and hyphens, as in blur-pack"
        raise UsageError(f"'{name}' is not a valid pack name", hint=hint)
    if module in TAKEN or module in sys.stdlib_module_names or keyword.iskeyword(module):
        raise UsageError(f"a pack can't be called '{name}': the name is taken", hint=f"try {name}-nodes")
    if _is_importable(module) or _is_installed(name):
        message = f"a pack can't be called '{name}': it would hide the package of that name that is installed"
        raise UsageError(message, hint=f"try {name}-nodes")
    kind = "".join(part.capitalize() for part in name.split("-"))
    made = []
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"'{folder}' exists and is not an empty folder", hint="choose another with --dir")
        for path, text in FILES.items():
            target = folder / Template(path).substitute(module=module)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(Template(text).substitute(name=name, module=module, kind=kind), encoding="utf-8")
            made.append(target)
    except OSError as error:
        raise UsageError(f"can't write to '{folder}': {error.strerror}") from None
    return made


def _is_importable(module: str) -> bool:
    """Whether something can be imported by this name; a mere folder beside the new pack doesn't count."""
    try:
        found = find_spec(module)
    except ValueError:  # a module that was made by hand, and doesn't say where it is from
        return True
    if found is None or found.origin is not None:
        return found is not None
    return any(Path(folder).absolute().parent != Path.cwd() for folder in found.submodule_search_locations or ())


def _is_installed(name: str) -> bool:
    """Whether a distribution has this name, whatever its modules are called."""
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True
