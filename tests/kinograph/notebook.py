"""What a notebook's kernel does, as far as Kinograph can tell: cells in `__main__`, a running loop, IPython's display.

Run as a program it takes cells, a JSON list, on standard input, and prints what each of them showed as another.
"""

from __future__ import annotations

import ast
import asyncio
import json
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any


class HTML:
    """IPython.display.HTML."""

    def __init__(self, data: str) -> None:
        self.data = data


class Shell:
    """Stands in for IPython's, with a kernel."""

    def __init__(self) -> None:
        self.kernel = object()
        self.outputs: list[str] = []
        """What was shown, as it was drawn last."""
        self.drawings = 0
        self.by_type: dict[type, Callable[[Any], str]] = {}
        html = SimpleNamespace(for_type=self.by_type.__setitem__)
        self.display_formatter = SimpleNamespace(formatters={"text/html": html})

    def modules(self) -> dict[str, ModuleType]:
        """What `import IPython` finds."""
        ipython, display = ModuleType("IPython"), ModuleType("IPython.display")
        vars(ipython).update(get_ipython=lambda: self, display=display)
        vars(display).update(HTML=HTML, display=self.display)
        return {"IPython": ipython, "IPython.display": display}

    def display(self, shown: HTML, *, display_id: bool) -> Any:
        self.outputs.append(shown.data)
        place = len(self.outputs) - 1
        return SimpleNamespace(update=lambda html: self._draw(place, html))

    def _draw(self, place: int, shown: HTML) -> None:
        self.drawings += 1
        self.outputs[place] = shown.data

    def result(self, value: Any) -> str:
        """The last value of a cell, as it is shown."""
        if type(value) in self.by_type:
            return self.by_type[type(value)](value)
        shown = value._repr_html_() if hasattr(value, "_repr_html_") else None
        return repr(value) if shown is None else str(shown)


async def cells(sources: list[str], shell: Shell) -> list[list[str]]:
    """What each cell showed: its displays, and its last value."""
    import __main__

    shown = []
    for source in sources:
        shell.outputs.clear()
        tree = ast.parse(source)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, "<cell>", "exec", dont_inherit=True), vars(__main__))
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "<cell>", "eval", dont_inherit=True), vars(__main__))
            shell.outputs.append(shell.result(value))
        shown.append([*shell.outputs])
    return shown


if __name__ == "__main__":
    own = Shell()
    sys.modules.update(own.modules())
    print(json.dumps(asyncio.run(cells(json.load(sys.stdin), own))))
