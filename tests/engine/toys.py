"""Kinds of node that need no model, for tests of the engine alone, and shortcuts to run them."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import Field

from engine.document.prepared import prepare
from engine.document.workflow import Workflow
from engine.events import Event, RunFinished
from engine.graph.check import check
from engine.graph.graph import Graph
from engine.node import Context, Figure, FileContents, FilePrefix, InputFile, Lazy, MayRead, Node, any_file
from engine.registry import Registry
from engine.run.execute import Execution
from engine.store.cache import Cache
from engine.values import Folder, Media, Value

RAN: Counter[str] = Counter()
"""How often each kind has run; `tests.engine.conftest` clears it before each test."""

MODULUS = 1_000_003


class Number(Node, version=1):
    """A number."""

    value: Annotated[int, Field(ge=0, le=10**6)] = 0
    """Which."""

    def run(self, ctx: Context) -> int:
        RAN["Number"] += 1
        return self.value


class Mix(Node, version=1):
    """Two numbers made into one, the order of which matters."""

    a: int
    b: int = 1
    scale: float = 1.0

    def run(self, ctx: Context) -> int:
        RAN["Mix"] += 1
        return (self.a * 31 + self.b * 7 + int(self.scale * 3) + 1) % MODULUS


class Parts(NamedTuple):
    quotient: int
    remainder: int


class Divide(Node, version=1):
    """A division with two outputs."""

    a: int
    by: Annotated[int, Field(ge=1)] = 10

    def run(self, ctx: Context) -> Parts:
        RAN["Divide"] += 1
        return Parts(*divmod(self.a, self.by))


class Handle(Value):
    """A value that can't be stored, as a loaded model."""

    storable = False

    def __init__(self, number: int) -> None:
        self.number = number

    @property
    def nbytes(self) -> int:
        return 100


class Open(Node, version=1):
    """Makes a handle."""

    number: int = 1

    def run(self, ctx: Context) -> Handle:
        RAN["Open"] += 1
        return Handle(self.number)


class Use(Node, version=1, uses="device"):
    """Reads a handle, on the device."""

    handle: Handle
    times: int = 1

    def run(self, ctx: Context) -> int:
        RAN["Use"] += 1
        for done in range(self.times):
            ctx.progress(done, self.times)
        return self.handle.number * self.times


class ReadFile(Node, version=1, uses="io"):
    """The length of a file."""

    file: InputFile

    def run(self, ctx: Context) -> str:
        RAN["ReadFile"] += 1
        return Path(self.file).read_text()


def texts(path: Path, may_read: MayRead = any_file) -> list[Path]:
    """The text files of a folder."""
    return sorted(filter(may_read, path.glob("*.txt"))) if path.is_dir() else []


class ReadFolder(Node, version=1, uses="io"):
    """The texts of a folder, each of which is kept when it is read; fails at one that is empty."""

    folder: Annotated[str, FileContents("files", texts)]
    joint: str = " "

    def run(self, ctx: Context) -> str:
        read = []
        for path in texts(Path(self.folder), ctx.may_read):
            kept = ctx.recall(path.name)
            if kept is None:
                RAN[path.name] += 1
                if not (text := path.read_text()):
                    raise ValueError("empty")
                kept = (text,)
                ctx.keep(path.name, kept, 1.0)
            read.append(kept[0])
        return self.joint.join(read)


class Trains(Node, version=1):
    """Counts, and keeps how far it has come in place of what it kept before."""

    to: int

    def run(self, ctx: Context) -> int:
        begun = next((count for count in range(self.to, 0, -1) if ctx.recall(f"count {count}")), 0)
        for count in range(begun + 1, self.to + 1):
            ctx.progress(count, self.to)
            RAN["step"] += 1
            earlier = [f"count {before}" for before in range(1, count)]
            ctx.keep(f"count {count}", (count,), 1.0, instead_of=earlier)
        return self.to


class SaveFolder(Node, version=1, saves="texts"):
    """Saves texts as files of a folder."""

    texts: tuple[str, ...]
    prefix: Annotated[str, FilePrefix()] = "texts"

    def run(self, ctx: Context) -> Folder:
        def writer(text: str) -> Callable[[Path], object]:
            def write(path: Path) -> None:
                RAN["file"] += 1
                path.write_text(text)

            return write

        files = {f"{index}/text.txt": writer(text) for index, text in enumerate(self.texts)}
        return Folder(self.prefix, files, "-".join(self.texts))


class Style(Node, version=1):
    """Takes one of several words, and a list of numbers."""

    style: Literal["crayon", "pencil"] = "crayon"
    weights: tuple[float, ...] = ()

    def run(self, ctx: Context) -> str:
        RAN["Style"] += 1
        return f"{self.style} {self.weights}"


class Slow(Node, version=1):
    """Takes long enough to be worth storing."""

    a: int
    seconds: float = 0.01

    def run(self, ctx: Context) -> int:
        time.sleep(self.seconds)
        RAN["Slow"] += 1
        return self.a + 1


class Hurry(Node, version=1, uses="io"):
    """Takes longer the smaller the number is."""

    a: int

    def run(self, ctx: Context) -> int:
        time.sleep(0.03 * (4 - self.a))
        return self.a


class PrefixOf(Node, version=1):
    """A prefix that leads outside the output folder for 0."""

    a: int

    def run(self, ctx: Context) -> str:
        return f"n{self.a}" if self.a else "../n"


class Fail(Node, version=1):
    """Raises."""

    a: int = 0

    def run(self, ctx: Context) -> int:
        RAN["Fail"] += 1
        raise ZeroDivisionError("by design")


class Flaky(Node, version=1, retries=2):
    """Raises in its first attempts."""

    failures: int = 1

    def run(self, ctx: Context) -> int:
        RAN["Flaky"] += 1
        if RAN["Flaky"] <= self.failures:
            raise ConnectionError(f"attempt {RAN['Flaky']}")
        return RAN["Flaky"]


class Tell(Node, version=1, retries=2):
    """Reports what it was given; if it is to fail at first, it does so only in those attempts."""

    a: int
    failures: int = 0

    def run(self, ctx: Context) -> int:
        RAN["Tell"] += 1
        fails = RAN["Tell"] <= self.failures
        if fails or not self.failures:
            ctx.report({"half": Figure(self.a / 2, "m")})
            ctx.report({"number": self.a, "half": Figure(self.a / 2, "m")})
        if fails:
            raise ConnectionError("lost")
        return self.a


class Meet(Node, version=1, uses="io"):
    """Ends only if as many run at the same time as the barrier requires."""

    a: int = 0
    seconds: int = 10

    def run(self, ctx: Context) -> int:
        RAN["Meet"] += 1
        BARRIER[0].wait(self.seconds)
        return self.a


class MeetOnDevice(Meet, version=1, uses="device"):
    """The same, but on the device's one slot."""


BARRIER = [threading.Barrier(1)]


class Steps(Node, version=1, uses="device"):
    """Takes steps and reports them; after the third it waits at the gate."""

    steps: int = 10

    def run(self, ctx: Context) -> int:
        for done in range(self.steps):
            ctx.progress(done, self.steps)
            ctx.text(f"{done} ")
            RAN["step"] += 1
            if done == 2:
                assert GATE[0].wait(10)
        RAN["Steps"] += 1
        return self.steps


GATE = [threading.Event()]


class OpenGate(Node, version=1, uses="io"):
    """Opens the gate."""

    a: int

    def run(self, ctx: Context) -> int:
        GATE[0].set()
        return self.a


class SaveNumber(Node, version=1, saves="number"):
    """Saves a number as a text file."""

    number: int
    prefix: Annotated[str, FilePrefix()] = "number"

    def run(self, ctx: Context) -> Media:
        RAN["SaveNumber"] += 1
        return Media(str(self.number).encode(), "txt", self.prefix)


class ShowNumber(Node, version=1, saves="number", temporary=True):
    """Writes a number down for viewing."""

    number: int

    def run(self, ctx: Context) -> Media:
        RAN["ShowNumber"] += 1
        return Media(str(self.number).encode(), "txt", "shown")


class Count(Node, version=1):
    """The numbers from 0 on."""

    to: int

    def run(self, ctx: Context) -> tuple[int, ...]:
        RAN["Count"] += 1
        return tuple(range(self.to))


class OpenAll(Node, version=1):
    """A list of handles."""

    to: int

    def run(self, ctx: Context) -> tuple[Handle, ...]:
        RAN["OpenAll"] += 1
        return tuple(map(Handle, range(self.to)))


class MaybeOpen(Node, version=1):
    """Two handles, unless the number is the one that is bad at the moment, as a connection may be."""

    bad: ClassVar[int] = -1
    a: int

    def run(self, ctx: Context) -> tuple[Handle, ...]:
        if self.a == self.bad:
            raise ConnectionError("gone")
        return Handle(10 * self.a), Handle(10 * self.a + 1)


class FailOn(Node, version=1):
    """Passes a number on, except for one."""

    a: int
    bad: int = -1

    def run(self, ctx: Context) -> int:
        RAN["FailOn"] += 1
        if self.a == self.bad:
            raise ZeroDivisionError(f"{self.a} is bad")
        return self.a


class Total(Node, version=1):
    """The numbers of a list, in order, and their sum."""

    numbers: tuple[int, ...]
    start: int = 0

    def run(self, ctx: Context) -> int:
        RAN["Total"] += 1
        SEEN.append(self.numbers)
        return self.start + sum(self.numbers)


SEEN: list[tuple[int, ...]] = []


class Choose(Node, version=1):
    """One of two."""

    first: bool
    one: Annotated[Any, Lazy()] = None
    other: Annotated[Any, Lazy()] = None

    @classmethod
    def wanted(cls, given: Mapping[str, Any]) -> tuple[str, ...]:
        return ("one",) if given["first"] else ("other",)

    def run(self, ctx: Context) -> Any:
        RAN["Choose"] += 1
        return self.one if self.first else self.other


class Pair(Node, version=1):
    """A number and the next."""

    a: int

    def run(self, ctx: Context) -> tuple[int, ...]:
        RAN["Pair"] += 1
        return self.a, self.a + 1


class ChooseOdd(Node, version=1):
    """One of two numbers, by whether a third is odd."""

    a: int
    one: Annotated[int, Lazy()] = 0
    other: Annotated[int, Lazy()] = 0

    @classmethod
    def wanted(cls, given: Mapping[str, Any]) -> tuple[str, ...]:
        return ("one",) if given["a"] % 2 else ("other",)

    def run(self, ctx: Context) -> int:
        RAN["ChooseOdd"] += 1
        return self.one if self.a % 2 else self.other


class ChooseByLength(Node, version=1):
    """One of two numbers, by whether a list has an even length."""

    numbers: tuple[int, ...]
    one: Annotated[int, Lazy()] = 0
    other: Annotated[int, Lazy()] = 0

    @classmethod
    def wanted(cls, given: Mapping[str, Any]) -> tuple[str, ...]:
        return ("other",) if len(given["numbers"]) % 2 else ("one",)

    def run(self, ctx: Context) -> int:
        return self.other if len(self.numbers) % 2 else self.one


class ChooseList(Node, version=1):
    """A number, or the sum of a list for 1."""

    a: int
    lists: Annotated[tuple[int, ...], Lazy()] = ()

    @classmethod
    def wanted(cls, given: Mapping[str, Any]) -> tuple[str, ...]:
        return ("lists",) if given["a"] == 1 else ()

    def run(self, ctx: Context) -> int:
        return sum(self.lists) if self.a == 1 else self.a


class IsOdd(Node, version=1):
    """Whether a number is odd."""

    a: int

    def run(self, ctx: Context) -> bool:
        RAN["IsOdd"] += 1
        return self.a % 2 == 1


class Draw(Node, version=1, volatile=True):
    """A number that no earlier draw gave, even on the same lot."""

    lot: str = ""

    def run(self, ctx: Context) -> int:
        RAN["Draw"] += 1
        number = next(_NUMBERS)
        DRAWN.setdefault(self.lot, []).append(number)
        return number


DRAWN: dict[str, list[int]] = {}
"""The numbers drawn, by lot."""
_NUMBERS = itertools.count(1000)


class DrawPair(Node, version=1, volatile=True):
    """Two handles on numbers drawn."""

    def run(self, ctx: Context) -> tuple[Handle, ...]:
        RAN["DrawPair"] += 1
        return Handle(next(_NUMBERS)), Handle(next(_NUMBERS))


class DrawInParts(Node, version=1, volatile=True):
    """Keeps the number that it draws, and reads it back."""

    def run(self, ctx: Context) -> int:
        if ctx.recall("number") is None:
            RAN["DrawInParts"] += 1
            ctx.keep("number", (next(_NUMBERS),), 1.0)
        (number,) = ctx.recall("number") or (0,)
        return int(number)


REGISTRY = Registry.of_modules(sys.modules[__name__])


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    """An entry of a graph."""
    return {"class_type": kind, "inputs": inputs}


def checked(graph: dict[str, Any], targets: Sequence[str] | None = None, base: Path | None = None) -> Graph:
    return check(prepare(Workflow.read(graph), REGISTRY), targets=targets, base=base)


class Run:
    """A run that has ended."""

    def __init__(
        self,
        graph: dict[str, Any],
        targets: Sequence[str] | None = None,
        *,
        cache: Cache | None = None,
        out: Path = Path("output"),
        base: Path | None = None,
    ) -> None:
        RAN.clear()
        execution = Execution(checked(graph, targets, base), cache=cache or Cache(), out=out)
        self.events: list[Event] = list(execution)
        self.results = {name: outputs[0] for name, outputs in execution.results.items()}
        self.ran = Counter(RAN)

    @property
    def end(self) -> RunFinished:
        assert isinstance(self.events[-1], RunFinished)
        return self.events[-1]

    def of(self, kind: type[Event]) -> list[Any]:
        """The events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]


def chain(length: int) -> dict[str, Any]:
    """A number passed through nodes "1", "2", …, each of which mixes what the one before gave."""
    graph = {"0": node("Number", value=5)}
    for index in range(1, length):
        graph[str(index)] = node("Mix", a=[str(index - 1), 0])
    return graph
