"""Small mistakes that can be made in Python code: a comparison turned round, a number off by one, a call left out.

None is made in what doesn't run, only speaks or only forbids: annotations, aliases of types, docstrings, the words of
messages, what is there for type checkers alone, and whether a dataclass is frozen.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Mistake:
    """A stretch of a file, and what is to stand there instead."""

    path: str
    line: int
    start: int
    """Bytes from the beginning of the file."""
    end: int
    before: str
    after: str
    name: str
    """It stays the same when other lines of the file change."""

    def made_in(self, source: bytes) -> bytes:
        """The file's text with the mistake."""
        return source[: self.start] + self.after.encode() + source[self.end :]


class Spot(NamedTuple):
    node: Any
    after: str


LARGEST = 10
"""Integers above it are mostly sizes and times, which may well be one more."""
ALIKE = {"cast", "isinstance", "issubclass", "max", "min"}
"""Functions whose arguments aren't swapped: it changes nothing, or never works."""

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt,),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt,),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.FloorDiv,
}


def mistakes(path: str, source: str) -> list[Mistake]:
    """All that can be made in a file, in their order."""
    text = source.encode()
    lines = text.splitlines(keepends=True)
    begins = [0, *accumulate(len(line) for line in lines)]
    found = {}
    for node in _running(ast.parse(source)):
        for place, after in _spots(node):
            start = begins[place.lineno - 1] + place.col_offset
            end = begins[place.end_lineno - 1] + place.end_col_offset
            found[start, end, after] = place.lineno
    named: Counter[str] = Counter()
    listed = []
    for (start, end, after), line in sorted(found.items()):
        before = text[start:end].decode()
        name = f"{path}: {lines[line - 1].decode().strip()}: {before} → {after}"
        named[name] += 1
        listed.append(Mistake(path, line, start, end, before, after, f"{name} {named[name]}"))
    return listed


def _running(node: ast.AST, in_function: bool = False) -> Iterator[ast.AST]:
    """The nodes of a tree in which a mistake can be seen."""
    match node:
        case ast.Call(func=ast.Name(id="dataclass")):
            return
        case ast.JoinedStr():  # a message mostly, and Python 3.11 doesn't say where its parts are
            return
        case ast.If(test=test) if ast.unparse(test) in ("TYPE_CHECKING", "__name__ == '__main__'"):
            return
        case ast.Assign(value=ast.BinOp(op=ast.BitOr()) | ast.Subscript()) if not in_function:  # an alias of types
            return
        case ast.Assign(targets=[ast.Name(id="__all__")]):
            return
    yield node
    in_function = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    for field, value in ast.iter_fields(node):
        if field not in ("annotation", "returns"):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from _running(child, in_function)


def _spots(node: ast.AST) -> Iterator[Spot]:
    """What can go wrong with a node itself: the place, and what stands there then."""
    yield from _in_conditions(node)
    yield from _in_values(node)
    yield from _in_statements(node)


def _in_conditions(node: ast.AST) -> Iterator[Spot]:
    match node:
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            for index, op in enumerate(ops):
                for other in COMPARISONS[type(op)]:
                    changed = [*ops[:index], other(), *ops[index + 1 :]]
                    yield Spot(node, ast.unparse(ast.Compare(left, changed, comparators)))
        case ast.BoolOp(op=op, values=values):
            other_op = ast.Or() if isinstance(op, ast.And) else ast.And()
            yield Spot(node, f"({ast.unparse(ast.BoolOp(other_op, values))})")
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield Spot(node, f"({ast.unparse(operand)})")
        case ast.While(test=test) if not isinstance(test, ast.Constant):
            yield Spot(test, "False")
        case ast.If(test=test) | ast.IfExp(test=test):
            yield Spot(test, "False")
            yield Spot(test, "True")


def _in_values(node: ast.AST) -> Iterator[Spot]:
    match node:
        case ast.Constant(value=bool(value)):
            yield Spot(node, str(not value))
        case ast.Constant(value=int(value)) if value <= LARGEST:
            yield Spot(node, str(value + 1))
        case ast.Constant(value=float(value)):
            yield Spot(node, repr(value * 2 + 1))
        case ast.BinOp(left=ast.Constant(value=str())):  # text with its values filled in
            return
        case ast.BinOp(left=left, op=ast.BitOr()):
            yield Spot(node, f"({ast.unparse(left)})")
        case ast.BinOp(left=left, op=op, right=right) if type(op) in ARITHMETIC:
            yield Spot(node, f"({ast.unparse(ast.BinOp(left, ARITHMETIC[type(op)](), right))})")
        case ast.Call(func=func, args=[first, second, *rest], keywords=keywords):
            starred = isinstance(first, ast.Starred) or isinstance(second, ast.Starred)
            if not starred and ast.unparse(func) not in ALIKE and ast.dump(first) != ast.dump(second):
                yield Spot(node, ast.unparse(ast.Call(func, [second, first, *rest], keywords)))


def _in_statements(node: ast.AST) -> Iterator[Spot]:
    match node:
        case ast.Expr(value=ast.Call() | ast.Await()) | ast.AugAssign() | ast.Raise():
            yield Spot(node, "pass")
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield Spot(node, "pass")
        case ast.Break():
            yield Spot(node, "continue")
        case ast.Continue():
            yield Spot(node, "break")
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            yield Spot(value, "None")
