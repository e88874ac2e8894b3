"""Distributions as pip would have installed them, made by hand: a folder of modules and metadata on the path."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

EXAMPLE = Path(__file__).with_name("example")

KIND = """
from engine.node import Context, Node


class {kind}(Node, version=1, category="toy"):
    '''Hand on a text.'''

    text: str = "x"

    def run(self, ctx: Context) -> str:
        return self.text
"""


class Site:
    """A folder that packages are installed in, and that is on the path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def add(
        self,
        name: str,
        files: Mapping[str, str],
        *,
        version: str = "1.0",
        modules: tuple[str, ...] = (),
        is_editable: bool = False,
    ) -> None:
        """Install a distribution with these Python files; its modules are those of the files, if none are given."""
        for file, text in files.items():
            path = self.folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        named = modules or tuple(file.removesuffix(".py").replace("/", ".") for file in files)
        self.register(name, version, named, is_editable=is_editable)

    def register(self, name: str, version: str, modules: tuple[str, ...], *, is_editable: bool = False) -> None:
        """Have a distribution's metadata name these modules."""
        for other in self.folder.glob(f"{name.replace('-', '_')}-*.dist-info"):
            for file in other.iterdir():
                file.unlink()
            other.rmdir()
        info = self.folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        entries = "".join(f"{module.replace('.', '_')} = {module}\n" for module in modules)
        (info / "entry_points.txt").write_text(f"[console_scripts]\nnone = none:none\n\n[kinograph.nodes]\n{entries}")
        if is_editable:
            (info / "direct_url.json").write_text(json.dumps({"url": "file:///x", "dir_info": {"editable": True}}))

    def toy(self, name: str, *kinds: str, before: str = "", **how: Any) -> None:
        """Install a distribution with toy kinds of these names, and some code before them."""
        module = name.replace("-", "_")
        self.add(name, {f"{module}.py": dedent(before) + "".join(KIND.format(kind=kind) for kind in kinds)}, **how)

    def forget(self) -> None:
        """Have what was imported from here imported anew."""
        for name, module in [*sys.modules.items()]:
            file = getattr(module, "__file__", None)
            if file and Path(file).is_relative_to(self.folder):
                del sys.modules[name]
