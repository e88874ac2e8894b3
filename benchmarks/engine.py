"""What the engine itself costs: µs of CPU time per pass-through node, beside a plain loop that makes the same calls.

    python -m benchmarks.engine [--large] [--rounds 7]

`check` reads and checks the workflow's JSON; the others are runs of the checked graph, with a memory tier only: `first`
with nothing held, `cached` with all, `head` and `tail` after an edit of the first and of the last node. Each round
measures everything once, in turn; medians are shown, and in brackets how many times what the plain loop takes.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

from engine.cache import Cache
from engine.execute import Execution
from engine.graph import Graph, check
from engine.node import Context, Node
from engine.registry import Registry
from engine.workflow import Workflow, as_link

COLUMNS = ("plain", "check", "first", "cached", "head", "tail")


class Start(Node, version=1):
    text: str = ""

    def run(self, ctx: Context) -> str:
        return self.text


class Pass(Node, version=1):
    text: str
    mark: int = 0

    def run(self, ctx: Context) -> str:
        return self.text


class Join(Node, version=1):
    a: str = ""
    b: str = ""
    c: str = ""
    d: str = ""
    e: str = ""
    f: str = ""
    g: str = ""
    h: str = ""
    i: str = ""
    j: str = ""
    mark: int = 0

    def run(self, ctx: Context) -> str:
        return self.a


REGISTRY = Registry([Start, Pass, Join])

Json = dict[str, Any]


def node(kind: type[Node], **inputs: Any) -> Json:
    return {"class_type": kind.spec.kind, "inputs": inputs}


def chain(length: int) -> Json:
    """The nodes "0" to `length` - 1, each fed by the one before."""
    passes = {str(index): node(Pass, text=[str(index - 1), 0]) for index in range(1, length)}
    return {"0": node(Start, text="a"), **passes}


def fan(width: int) -> Json:
    """One node that feeds `width` different ones, which a tree of tens joins again."""
    graph = {"0": node(Start, text="a")}
    row = [str(index) for index in range(1, width + 1)]
    graph |= {name: node(Pass, text=["0", 0], mark=int(name)) for name in row}
    while len(row) > 1:
        tens = [row[start : start + 10] for start in range(0, len(row), 10)]
        row = [str(len(graph) + index) for index in range(len(tens))]
        joins = (
            node(Join, **{socket: [name, 0] for socket, name in zip("abcdefghij", ten, strict=False)}) for ten in tens
        )
        graph |= zip(row, joins, strict=True)
    return graph


def edited(graph: Json, name: str, **inputs: Any) -> Json:
    return graph | {name: {**graph[name], "inputs": graph[name]["inputs"] | inputs}}


def checked(graph: Json) -> Graph:
    return check(Workflow.read(graph), REGISTRY, targets=[next(reversed(graph))])


def plain(graph: Json) -> Any:
    """The calls that a run comes down to, in a loop."""
    outputs: Json = {}
    ctx = Context()
    for name, entry in graph.items():
        linked = {
            socket: outputs[link.node] if (link := as_link(value)) else value
            for socket, value in entry["inputs"].items()
        }
        outputs[name] = REGISTRY[entry["class_type"]](**linked).run(ctx)
    return outputs[name]


def run(graph: Graph, cache: Cache) -> None:
    execution = Execution(graph, cache=cache, out=Path("output"))
    for _ in execution:
        pass
    assert execution.results[graph.targets[0]] == ("a",) or "edit" in execution.results[graph.targets[0]]


def seconds(work: Callable[[], object]) -> float:
    gc.collect()
    started = process_time()
    work()
    return process_time() - started


def measure(graph: Json, rounds: int) -> dict[str, float]:
    """µs of CPU time per node, by column."""
    last = next(reversed(graph))
    whole, head, tail = (
        checked(variant) for variant in (graph, edited(graph, "0", text="edit"), edited(graph, last, mark=-1))
    )
    times: dict[str, list[float]] = {column: [] for column in COLUMNS}
    for _ in range(rounds):
        cache = Cache()
        times["plain"].append(seconds(partial(plain, graph)))
        times["check"].append(seconds(partial(checked, graph)))
        for column, variant in (("first", whole), ("cached", whole), ("head", head), ("tail", tail)):
            times[column].append(seconds(partial(run, variant, cache)))
    return {column: median(taken) / len(graph) * 1e6 for column, taken in times.items()}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--large", action="store_true", help="also 100,000 nodes, deep and wide")
    options.add_argument("--rounds", type=int, default=7)
    given = options.parse_args()

    graphs = {f"chain of {length}": chain(length) for length in (100, 1000, 5000)} | {"fan of 1000": fan(1000)}
    if given.large:
        graphs |= {"chain of 100000": chain(100_000), "fan of 100000": fan(100_000)}
    print(f"{'µs per node':16}" + "".join(f"{column:>16}" for column in COLUMNS))
    for name, graph in graphs.items():
        taken = measure(graph, given.rounds)
        cells = (f"{taken[column]:.1f} ({taken[column] / taken['plain']:.2f})" for column in COLUMNS)
        print(f"{name:16}" + "".join(f"{cell:>16}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
