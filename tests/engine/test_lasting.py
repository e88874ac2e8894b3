"""What isn't a function of its key, a volatile node's outputs or what was read from a replaced file, is never kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.document.prepared import prepare
from engine.document.workflow import Workflow
from engine.errors import MissingError, Problem
from engine.events import NodeCached, NodeStarted, NodeWarned
from engine.graph.check import check
from engine.node import Context, ModelFile, Node
from engine.registry import Registry
from engine.run.execute import Execution
from engine.store.cache import Cache
from engine.store.disk import Disk
from tests.engine import toys
from tests.engine.test_lists import Invalid, by_hand, listing_graphs
from tests.engine.toys import DRAWN, RAN, Run, checked, node, texts

DRAW = {"draw": node("Draw"), "mix": node("Mix", a=["draw", 0]), "save": node("SaveNumber", number=["mix", 0])}


@pytest.fixture(params=["memory", "disk"])
def caches(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Cache]]:
    """Returns the cache of the next run: the same one, or that of another process on the same disk."""
    made = [Cache(disk=Disk(tmp_path / "cache"))]

    def following() -> Cache:
        if request.param == "disk":
            made[-1].close()
            made.append(Cache(disk=Disk(tmp_path / "cache")))
        return made[-1]

    yield following
    made[-1].close()


class TestVolatileNodes:
    def test_it_and_what_depends_on_it_run_in_every_run(self, caches: Callable[[], Cache], tmp_path: Path) -> None:
        graph = DRAW | {"one": node("Slow", a=1), "both": node("Mix", a=["one", 0], b=["draw", 0])}
        first, again = (Run(graph, ["both", "save"], cache=caches(), out=tmp_path / "out") for _ in range(2))
        assert again.ran == {"Draw": 1, "Mix": 2, "SaveNumber": 1}
        assert first.results != again.results
        assert [event.node for event in again.of(NodeCached)] == ["one"]

    def test_two_equal_ones_are_two_steps(self) -> None:
        graph = {"a": node("Draw"), "b": node("Draw"), "mix": node("Mix", a=["a", 0], b=["b", 0])}
        run = Run(graph, ["a", "b", "mix"])
        assert run.results["a"] != run.results["b"]
        assert run.results["mix"] == run.results["a"] * 31 + run.results["b"] * 7 + 4

    def test_all_that_depends_on_one_takes_the_same_value(self) -> None:
        graph = {"draw": node("Draw"), "a": node("Mix", a=["draw", 0]), "b": node("Mix", a=["draw", 0], b=2)}
        run = Run(graph, ["draw", "a", "b"])
        assert run.ran["Draw"] == 1
        assert run.results["b"] - run.results["a"] == 7

    def test_nothing_of_it_is_kept(self, tmp_path: Path) -> None:
        with Cache(disk=Disk(tmp_path / "cache")) as cache:
            graph = DRAW | {"two": node("DrawPair"), "use": node("Use", handle=["two", 0])}
            Run(graph, ["save", "use"], cache=cache, out=tmp_path / "out")
            assert not len(cache.memory)
        assert not list((tmp_path / "cache").glob("*.safetensors"))

    def test_parts_that_it_keeps_are_those_of_one_run(self, caches: Callable[[], Cache]) -> None:
        first, again = (Run({"it": node("DrawInParts")}, ["it"], cache=caches()) for _ in range(2))
        assert (first.ran, again.ran) == ({"DrawInParts": 1}, {"DrawInParts": 1})
        assert first.results["it"] != again.results["it"] != 0

    def test_a_target_that_runs_alone_draws_anew(self, cache: Cache) -> None:
        graph = {"one": node("Number", value=1), "both": node("Mix", a=["draw", 0], b=["one", 0])}
        graph |= {"draw": node("Draw"), "end": node("Mix", a=["both", 0])}
        Run({"one": graph["one"]}, ["one"], cache=cache)
        alone = Execution(checked(graph, ["end"]), cache=cache, out=Path("out"), alone=True)
        RAN.clear()
        assert list(alone)
        assert RAN == {"Draw": 1, "Mix": 2}
        with pytest.raises(MissingError, match="node one: has not been computed"):
            list(Execution(checked(graph, ["end"]), cache=Cache(), out=Path("out"), alone=True))

    def test_a_late_choice_takes_the_value_that_others_took(self) -> None:
        graph = {
            "draw": node("Draw"),
            "early": node("Mix", a=["draw", 0]),
            "slow": node("Slow", a=["early", 0], seconds=0.05),
            "odd": node("IsOdd", a=["slow", 0]),
            "choose": node("Choose", first=["odd", 0], one=["draw", 0], other=["draw", 0]),
        }
        for memory in (0, 1 << 20):
            DRAWN.clear()
            run = Run(graph, ["early", "choose"], cache=Cache(memory))
            assert {"": [run.results["choose"]]} == DRAWN
            assert run.results["early"] == run.results["choose"] * 31 + 11

    def test_what_was_made_of_it_is_there_for_a_late_choice(self) -> None:
        graph = {
            "draw": node("Draw"),
            "made": node("Slow", a=["draw", 0], seconds=0.0),
            "later": node("Mix", a=["made", 0]),
            "odd": node("IsOdd", a=["later", 0]),
            "choose": node("Choose", first=["odd", 0], one=["made", 0], other=["made", 0]),
        }
        run = Run(graph, ["choose"])
        assert run.ran == {"Draw": 1, "Slow": 1, "Mix": 1, "IsOdd": 1, "Choose": 1}
        cramped = Run(graph, ["choose"], cache=Cache(0))
        assert cramped.ran == {"Draw": 1, "Slow": 2, "Mix": 1, "IsOdd": 1, "Choose": 1}

    @settings(max_examples=100)
    @given(graph=listing_graphs(), memory=st.sampled_from([0, 1500, 1 << 20]), seed=st.randoms())
    def test_in_graphs_of_lists_and_choices_each_draws_once_a_run(
        self, graph: dict[str, Any], memory: int, seed: Any, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        drawing = {
            name: node("Draw", lot=name) if entry["class_type"] == "Number" and seed.random() < 0.7 else entry
            for name, entry in graph.items()
        }
        target = next(reversed(graph))
        with Cache(memory, Disk(tmp_path_factory.mktemp("cache"))) as cache:
            for _ in range(2):
                DRAWN.clear()
                run = Run(drawing, [target], cache=cache)
                started = [event.node for event in run.of(NodeStarted) if event.kind == "Draw"]
                assert len(started) == len(set(started))
                drawn = {name: node("Number", value=numbers[0]) for name, numbers in DRAWN.items()}
                unknown = node("FailOn", a=0, bad=0)  # a choice's other side draws nothing
                known = {n: unknown if entry["class_type"] == "Draw" else entry for n, entry in drawing.items()}
                try:
                    expected = by_hand(known | drawn, target)
                except Invalid:
                    continue
                found = [value for value in run.results.values() if not isinstance(value, tuple)]
                if isinstance(expected, int):
                    assert found == [expected]


def put(path: Path, text: str) -> None:
    """Put a file in place of another, as an upload does."""
    part = path.with_name(".part")
    part.write_text(text)
    part.replace(path)


class Weights(Node, version=1):
    """Reads a model of one or several files."""

    source: ModelFile

    def run(self, ctx: Context) -> str:
        path = Path(self.source)
        return "".join(file.read_text() for file in sorted(path.iterdir() if path.is_dir() else [path]))


class TestReplacedFiles:
    """A file is replaced while a run is under way, by the time that a node reads it."""

    READ = {"read": node("ReadFile", file="ref.txt")}  # noqa: RUF012

    @pytest.fixture
    def meanwhile(self, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
        """Has something happen just before `ReadFile` reads, and something else after."""
        plain = toys.ReadFile.run
        happens: list[Callable[[], object]] = []

        def run(self: toys.ReadFile, ctx: Context) -> str:
            for each in happens[:1]:
                each()
            text = plain(self, ctx)
            for each in happens[1:]:
                each()
            return text

        monkeypatch.setattr(toys.ReadFile, "run", run)

        def set_to(*what: Callable[[], object]) -> None:
            happens[:] = what

        return set_to

    def test_what_was_read_is_not_taken_for_the_checked_file(self, caches: Callable[[], Cache], tmp_path: Path) -> None:
        ref = tmp_path / "ref.txt"
        put(ref, "red")
        graph = checked(self.READ | {"end": node("Style")}, ["read"], tmp_path)
        put(ref, "blue")
        execution = Execution(graph, cache=caches(), out=tmp_path / "out")
        events = list(execution)
        assert execution.results == {"read": ("blue",)}
        warned = Problem(
            f"'{ref}' was changed or replaced during the run",
            "read",
            "file",
            "what was made of it may mix old and new, and is not kept: run the workflow again",
        )
        assert [event for event in events if isinstance(event, NodeWarned)] == [NodeWarned("read", warned)]
        assert events[-1].warnings == (warned,)  # type: ignore[union-attr]
        put(ref, "red")
        again = Run(self.READ, ["read"], cache=caches(), base=tmp_path)
        assert (again.results, again.end.warnings) == ({"read": "red"}, ())

    def test_nor_is_what_was_made_of_it(self, caches: Callable[[], Cache], tmp_path: Path) -> None:
        graph = {"read": node("ReadFile", file="1.txt"), "save": node("SaveFolder", texts=["read", 0])}
        graph |= {"length": node("Style", style="pencil")}
        put(tmp_path / "1.txt", "red")
        stale = checked(graph, ["save"], tmp_path)
        put(tmp_path / "1.txt", "blue")
        list(Execution(stale, cache=caches(), out=tmp_path / "out"))
        put(tmp_path / "1.txt", "red")
        Run(graph, ["save"], cache=caches(), base=tmp_path, out=tmp_path / "out")
        saved = [path.read_text() for path in sorted((tmp_path / "out").rglob("text.txt"))]
        assert saved == ["blue", "red"]

    def test_a_file_that_is_put_back_at_once_is_noticed_too(
        self, caches: Callable[[], Cache], tmp_path: Path, meanwhile: Callable[..., None]
    ) -> None:
        ref = tmp_path / "ref.txt"
        put(ref, "red")
        meanwhile(lambda: put(ref, "blue"), lambda: put(ref, "red"))
        during = Run(self.READ, ["read"], cache=caches(), base=tmp_path)
        assert during.results == {"read": "blue"}
        assert during.of(NodeWarned)
        meanwhile()
        assert Run(self.READ, ["read"], cache=caches(), base=tmp_path).results == {"read": "red"}

    def test_a_file_rewritten_within_its_clocks_resolution_is_noticed_too(
        self, cache: Cache, tmp_path: Path, meanwhile: Callable[..., None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ref = tmp_path / "ref.txt"
        put(ref, "reds")
        monkeypatch.setattr("engine.models.digest._stamp", lambda state: f"{state.st_size}")
        meanwhile(lambda: put(ref, "blue"))
        assert Run(self.READ, ["read"], cache=cache, base=tmp_path).of(NodeWarned)
        put(ref, "reds")
        meanwhile()
        assert Run(self.READ, ["read"], cache=cache, base=tmp_path).results == {"read": "reds"}

    def test_a_file_that_is_gone_when_its_node_is_done_is_reported(
        self, cache: Cache, tmp_path: Path, meanwhile: Callable[..., None]
    ) -> None:
        put(tmp_path / "ref.txt", "red")
        meanwhile(lambda: None, (tmp_path / "ref.txt").unlink)
        run = Run(self.READ, ["read"], cache=cache, base=tmp_path)
        assert run.results == {"read": "red"}
        assert run.of(NodeWarned)

    def test_a_file_that_stays_is_kept_without_a_word(self, caches: Callable[[], Cache], tmp_path: Path) -> None:
        put(tmp_path / "ref.txt", "red")
        first, again = (Run(self.READ, ["read"], cache=caches(), base=tmp_path) for _ in range(2))
        assert (first.ran, again.ran) == ({"ReadFile": 1}, {})
        assert not first.of(NodeWarned)

    def test_a_folders_files(self, caches: Callable[[], Cache], tmp_path: Path) -> None:
        """A new file, a changed one, and one that is gone."""
        graph = {"read": node("ReadFolder", folder="in")}
        (folder := tmp_path / "in").mkdir()
        for name, text in {"a": "one", "b": "two"}.items():
            put(folder / f"{name}.txt", text)
        for change in (lambda: put(folder / "c.txt", "three"), (folder / "b.txt").unlink):
            graph["read"]["inputs"]["joint"] = f" {len(texts(folder))} "
            stale = checked(graph, ["read"], tmp_path)
            change()
            events = list(Execution(stale, cache=caches(), out=tmp_path / "out"))
            assert [event.problem.input for event in events if isinstance(event, NodeWarned)] == ["folder"]
            expected = graph["read"]["inputs"]["joint"].join(path.read_text() for path in texts(folder))
            assert Run(graph, ["read"], cache=caches(), base=tmp_path).results == {"read": expected}

    @pytest.mark.parametrize("folder", [False, True])
    def test_models(self, folder: bool, caches: Callable[[], Cache], tmp_path: Path) -> None:
        model = tmp_path / "model"
        if folder:
            model.mkdir()
        file = model / "weights" if folder else model
        workflow = prepare(Workflow.read({"load": node("Weights", source="model")}), Registry([Weights]))

        def run(*, replaced_by: str = "") -> tuple[Any, bool]:
            graph = check(workflow, base=tmp_path, targets=["load"])
            if replaced_by:
                put(file, replaced_by)
            execution = Execution(graph, cache=caches(), out=tmp_path / "out")
            warned = any(isinstance(event, NodeWarned) for event in execution)
            return execution.results["load"][0], warned

        put(file, "red")
        assert run(replaced_by="blue") == ("blue", True)
        put(file, "red")
        assert run() == ("red", False)
        assert run() == ("red", False)

    def test_a_list_reports_it_once(self, cache: Cache, tmp_path: Path) -> None:
        graph = {"count": node("Count", to=3), "each": node("ReadEach", number=["count", 0], file="ref.txt")}
        put(tmp_path / "ref.txt", "red")
        registry = Registry([toys.Count, ReadEach])
        stale = check(prepare(Workflow.read(graph), registry), base=tmp_path, targets=["each"])
        put(tmp_path / "ref.txt", "blue")
        events = list(Execution(stale, cache=cache, out=tmp_path / "out"))
        assert [event.node for event in events if isinstance(event, NodeWarned)] == ["each"]

    def test_the_length_of_a_list_is_that_of_the_checked_file(
        self, caches: Callable[[], Cache], tmp_path: Path
    ) -> None:
        """What is noted of a list, so that later runs needn't make it, is as passing as the list."""
        graph = {"lines": node("Lines", file="ref.txt"), "style": node("Echo", text=["lines", 0])}
        workflow = prepare(Workflow.read(graph), Registry([Lines, Echo]))

        def texts_of(*, replaced_by: str = "") -> list[Any]:
            checked_now = check(workflow, base=tmp_path, targets=["style"])
            if replaced_by:
                put(tmp_path / "ref.txt", replaced_by)
            execution = Execution(checked_now, cache=caches(), out=tmp_path / "out")
            list(execution)
            return [value for (value,) in execution.results.values()]

        put(tmp_path / "ref.txt", "a b")
        assert texts_of(replaced_by="c d e") == ["c", "d", "e"]
        put(tmp_path / "ref.txt", "a b")
        assert texts_of() == ["a", "b"]

    def test_confined_runs_name_it_within_its_folder(self, cache: Cache, tmp_path: Path) -> None:
        roots = {"input": tmp_path / "input", "models": tmp_path / "models"}
        (tmp_path / "input" / "sub").mkdir(parents=True)
        put(ref := tmp_path / "input" / "sub" / "ref.txt", "red")
        graph = {"read": node("ReadFile", file="sub/ref.txt")}
        stale = check(prepare(Workflow.read(graph), toys.REGISTRY), targets=["read"], roots=roots)
        put(ref, "blue")
        (warned,) = (e for e in Execution(stale, cache=cache, out=tmp_path / "out") if isinstance(e, NodeWarned))
        assert warned.problem.message == "'sub/ref.txt' was changed or replaced during the run"


class ReadEach(Node, version=1, uses="io"):
    """Reads the same file for each number."""

    number: int
    file: toys.InputFile

    def run(self, ctx: Context) -> str:
        return f"{self.number} {Path(self.file).read_text()}"


class Lines(Node, version=1, uses="io"):
    """The words of a file."""

    file: toys.InputFile

    def run(self, ctx: Context) -> tuple[str, ...]:
        return tuple(Path(self.file).read_text().split())


class Echo(Node, version=1):
    """A text."""

    text: str

    def run(self, ctx: Context) -> str:
        return self.text
