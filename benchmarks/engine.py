"""What the engine itself costs.

    python -m benchmarks.engine [--large] [--rounds 7] [--only nodes]

- `nodes`: µs of CPU time per pass-through node, compared with a plain loop that makes the same calls. `check` reads and
  checks the workflow's JSON; the others are runs of the checked graph, with a memory tier only: `first` with nothing
  held, `cached` with everything held, `head` and `tail` after an edit of the first and of the last node. How long the
  kinds take is known from earlier runs, as usual. Each round measures everything once, in turn; medians are shown, and
  in brackets the ratio to the plain loop.
- `choices`: µs of CPU time per node for a list whose items each go one of two ways, so that planning continues during
  the run.
- `memory`: bytes per pass-through node at the peak of reading, checking and running, in a process of its own.
- `events`: the size of the events of a run of 200 nodes, as JSON.
- `branches`: two branches of five nodes that wait for 0.3 s each.
- `validate`: CPU time of `kinograph validate` on a file of 5,000 nodes.
- `disk`: a video of a gigabyte, stored and read back with its checksum, compared with a plain file of its bytes, in
  turn.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any

import psutil

from benchmarks.kinds import Choose, Join, Letter, Pass, Start, Texts, Wait
from engine.document.prepared import prepare
from engine.document.workflow import Workflow, as_link
from engine.events import to_json
from engine.graph.check import check
from engine.graph.graph import Graph
from engine.node import Context, Node
from engine.registry import Registry
from engine.run.costs import Costs
from engine.run.execute import Execution
from engine.store.cache import Cache

COLUMNS = ("plain", "check", "first", "cached", "head", "tail")


REGISTRY = Registry([Start, Pass, Join, Letter, Choose, Texts, Wait])

COSTS = Costs()

Json = dict[str, Any]


def node(kind: type[Node], **inputs: Any) -> Json:
    return {"class_type": kind.spec.kind, "inputs": inputs}


def chain(length: int) -> Json:
    """The nodes "0" to `length` - 1, each linked to the one before."""
    passes = {str(index): node(Pass, text=[str(index - 1), 0]) for index in range(1, length)}
    return {"0": node(Start, text="a"), **passes}


def fan(width: int) -> Json:
    """One node that feeds `width` different ones, which are joined again ten at a time."""
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


def crossroads(count: int) -> Json:
    """A list whose items each go one of two ways, by a test of their own."""
    return {
        "texts": node(Texts, count=count),
        "on": node(Letter, text=["texts", 0]),
        "yes": node(Pass, text=["texts", 0], mark=1),
        "no": node(Pass, text=["texts", 0], mark=-1),
        "choice": node(Choose, on=["on", 0], yes=["yes", 0], no=["no", 0]),
        "end": node(Pass, text=["choice", 0]),
    }


def edited(graph: Json, name: str, **inputs: Any) -> Json:
    return graph | {name: {**graph[name], "inputs": graph[name]["inputs"] | inputs}}


def checked(graph: Json) -> Graph:
    return check(prepare(Workflow.read(graph), REGISTRY), targets=[next(reversed(graph))])


def plain(graph: Json) -> Any:
    """The calls that a run amounts to, in a loop."""
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
    execution = run_all(graph, cache)
    assert execution.results[graph.targets[0]] == ("a",) or "edit" in execution.results[graph.targets[0]]


def run_all(graph: Graph, cache: Cache | None = None) -> Execution:
    execution = Execution(graph, cache=cache or Cache(), out=Path("output"), costs=COSTS)
    for _ in execution:
        pass
    assert execution.exit_code == 0
    return execution


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


def nodes(rounds: int, large: bool) -> None:
    lengths = (100, 1000, 5000, 10_000)
    graphs = {f"chain of {length}": chain(length) for length in lengths} | {"fan of 1000": fan(1000)}
    if large:
        graphs |= {"chain of 100000": chain(100_000), "fan of 100000": fan(100_000)}
    print(f"{'µs per node':16}" + "".join(f"{column:>16}" for column in COLUMNS))
    first: dict[str, float] = {}
    for name, graph in graphs.items():
        taken = measure(graph, rounds)
        first[name] = taken["first"] * len(graph)
        cells = (f"{taken[column]:.1f} ({taken[column] / taken['plain']:.2f})" for column in COLUMNS)
        print(f"{name:16}" + "".join(f"{cell:>16}" for cell in cells), flush=True)
    growth = first["chain of 10000"] / first["chain of 1000"]
    print(f"a first run of 10,000 nodes takes {growth:.1f} times one of 1,000")


def choices(rounds: int, large: bool) -> None:
    for count in (100, 1000, 10_000) if large else (100, 1000):
        graph = check(prepare(Workflow.read(crossroads(count)), REGISTRY), targets=["end"])
        taken = median(seconds(partial(run_all, graph)) for _ in range(min(rounds, 3)))
        print(f"a list of {count}, each with a choice of its own: {taken / (4 * count) * 1e6:.0f} µs per node")


def memory(rounds: int, large: bool) -> None:
    length = 100_000 if large else 20_000
    peaks = [int(_output(f"from benchmarks.engine import peak; print(peak({length}))")) for _ in range(min(rounds, 3))]
    print(f"memory at the peak of a chain of {length:,}: {median(peaks) / length / 1024:.2f} KB per node")


def peak(length: int) -> int:
    """Peak bytes of reading, checking and running a chain, beyond what the process used before."""
    run(checked(chain(2)), Cache())
    before = _resident()
    run(checked(chain(length)), Cache())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before


def _resident() -> int:
    return psutil.Process().memory_info().rss


def events(rounds: int, large: bool) -> None:
    execution = Execution(checked(chain(200)), cache=Cache(), out=Path("output"))
    size = sum(len(json.dumps(to_json(event))) + 1 for event in execution)
    print(f"events of 200 nodes: {size / 1000:.1f} KB of JSON")


def branches(rounds: int, large: bool) -> None:
    graph = {"start": node(Start, text="a")}
    for branch in "ab":
        for index in range(5):
            before = f"{branch}{index - 1}" if index else "start"
            graph[f"{branch}{index}"] = node(Wait, text=[before, 0], mark=ord(branch))
    graph["end"] = node(Join, a=["a4", 0], b=["b4", 0])
    taken = []
    for _ in range(min(rounds, 3)):
        started = perf_counter()
        run(checked(graph), Cache())
        taken.append(perf_counter() - started)
    print(f"two branches of 5 × 0.3 s of waiting: {median(taken):.2f} s")


def validate(rounds: int, large: bool) -> None:
    shipped = {"text": {"class_type": "Text", "inputs": {"text": "a"}}}
    passes = {
        str(index): {"class_type": "SaveText", "inputs": {"text": ["text", 0], "filename_prefix": str(index)}}
        for index in range(4999)
    }
    with TemporaryDirectory() as folder:
        file = Path(folder) / "large.json"
        file.write_text(json.dumps(shipped | passes))
        taken = []
        for _ in range(rounds):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(
                [sys.executable, "-m", "engine.cli", "validate", str(file)], check=True, stdout=subprocess.DEVNULL
            )
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    print(f"kinograph validate, 5,000 nodes: {median(taken):.2f} s of CPU")


def disk(rounds: int, large: bool) -> None:
    import torch

    from engine.store.encoding import load, save
    from engine.values import Video

    video = Video(torch.rand(85, 3, 1024, 1024), 7.0)
    data = memoryview(video.frames.numpy().reshape(-1).view("uint8"))
    speeds: dict[str, list[float]] = {name: [] for name in ("write", "plain write", "read", "plain read")}

    def timed(name: str, work: Callable[[], Any]) -> None:
        started = perf_counter()
        work()
        speeds[name].append(data.nbytes / (perf_counter() - started) / 1e9)

    with TemporaryDirectory(dir=".") as folder:
        stored, file = Path(folder) / "stored", Path(folder) / "plain"

        def write_plain() -> None:
            with file.open("wb") as target:
                target.write(data)
                os.fsync(target.fileno())

        def write_stored() -> None:
            save(stored, (video,), 1.0, 1.0)
            with stored.open("rb+") as target:
                os.fsync(target.fileno())

        for _ in range(min(rounds, 5)):
            for path in (stored, file):
                path.unlink(missing_ok=True)
            timed("plain write", write_plain)
            timed("write", write_stored)
            timed("plain read", file.read_bytes)
            timed("read", partial(load, stored))
        before = _anonymous()
        (back,), _ = load(stored)
        copied = _anonymous() - before
        assert torch.equal(back.frames[-1], video.frames[-1])
    for name in ("write", "read"):
        ours, plain_file = median(speeds[name]), median(speeds[f"plain {name}"])
        share = f"{ours / plain_file:.0%} of a plain file's {plain_file:.2f}"
        print(f"disk, {name} of {data.nbytes / 1e9:.2f} GB: {ours:.2f} GB/s, {share}")
    print(f"disk, memory taken by what was read back: {copied / 1e6:.1f} MB, the rest is mapped")


def _anonymous() -> int:
    """Bytes of memory that isn't backed by a file."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("RssAnon")).split()[1]) * 1024


def _output(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


PARTS = {part.__name__: part for part in (nodes, choices, memory, events, branches, validate, disk)}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--large", action="store_true", help="also 100,000 nodes, deep and wide")
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--only", choices=PARTS, help="one part")
    given = options.parse_args()
    for name, part in PARTS.items():
        if given.only in (None, name):
            part(given.rounds, given.large)


if __name__ == "__main__":
    main()
