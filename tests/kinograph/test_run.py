"""`kinograph.run` and `kinograph.Session`: files, values, errors, and what runs share."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import threading
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field

import kinograph
from engine.events import Event, NodeFinished, NodeProgress, NodeStarted, RunFinished
from engine.models.sources import SHIPPED
from kinograph import Context, Deprecated, Figure, Graph, Node
from tests.engine.toys import (
    RAN,
    Choose,
    Count,
    Divide,
    Fail,
    FailOn,
    Mix,
    Number,
    Pair,
    ReadFile,
    SaveNumber,
    ShowNumber,
    Slow,
    Steps,
    Style,
    Tell,
    Total,
)
from tests.fakecuda import fake_cuda

TOYS = [
    Choose,
    Count,
    Divide,
    Fail,
    FailOn,
    Mix,
    Number,
    Pair,
    ReadFile,
    SaveNumber,
    ShowNumber,
    Slow,
    Steps,
    Style,
    Tell,
    Total,
]


class Former(Node, version=1, deprecated="use Number instead"):
    """A kind that was replaced."""

    value: Annotated[int, Field(ge=0)] = 0
    speed: Annotated[int, Deprecated("it makes no difference")] = 1

    def run(self, ctx: Context) -> int:
        return self.value


def run(workflow: Any, *args: Any, **how: Any) -> kinograph.Results:
    return kinograph.run(workflow, *args, **{"nodes": TOYS, "progress": False} | how)


def numbered(value: int) -> dict[str, Any]:
    return {"n": {"class_type": "Number", "inputs": {"value": value}}}


def saving(value: int = 7) -> dict[str, Any]:
    """A workflow that saves a number in a text file, and exposes it."""
    return {
        "kinograph": 1,
        "title": "A number",
        "inputs": {"number": "n.value"},
        "graph": {
            "n": {"class_type": "Number", "inputs": {"value": value}},
            "save": {"class_type": "SaveNumber", "inputs": {"number": ["n", 0]}},
        },
    }


class TestWorkflows:
    def test_data_a_file_a_workflow_and_what_load_gives_are_all_the_same(self, tmp_path: Path) -> None:
        (tmp_path / "flow.json").write_text(json.dumps(saving()))
        loaded = kinograph.load("flow.json", nodes=TOYS)
        forms = saving(), "flow.json", tmp_path / "flow.json", kinograph.Workflow.read(saving()), loaded
        for count, form in enumerate(forms, 1):
            (file,) = run(form).files["save"]
            assert file.path == tmp_path / "output" / f"number_{count:05}.txt"
            assert file.path.read_text() == "7"
        assert RAN["Number"] == 1

    def test_a_shipped_one_goes_by_its_name(self) -> None:
        results = kinograph.run("keyframes", {"count": 1, "keyframes.steps": 1}, progress=False)
        (file,) = results.files["save"]
        assert file.media_type == "image/png"
        assert file.path.read_bytes().startswith(b"\x89PNG")
        assert results.timings.keys() == {"image_model", "keyframes", "save"}

    def test_what_load_gives_tells_of_itself(self) -> None:
        document = kinograph.load("image_to_video")
        assert repr(document) == "<Document 'image_to_video' of 4 nodes>"
        assert document.workflow.title == "A video from a picture"
        assert document.workflow.inputs["image"] == "picture.image"
        assert document.document()["graph"]["picture"]["class_type"] == "LoadImage"

    def test_files_are_sought_where_the_workflow_lies(self, tmp_path: Path) -> None:
        (tmp_path / "flows").mkdir()
        (tmp_path / "flows" / "note.txt").write_text("near")
        graph = {"read": {"class_type": "ReadFile", "inputs": {"file": "note.txt"}}}
        (tmp_path / "flows" / "read.json").write_text(json.dumps(graph))
        assert run("flows/read.json")["read"] == "near"
        assert run(kinograph.load("flows/read.json", nodes=TOYS))["read"] == "near"

    @pytest.mark.parametrize(
        ("workflow", "error", "message"),
        [
            ("nowhere.json", kinograph.MissingError, "there is no workflow 'nowhere.json'"),
            ("keyframe", kinograph.MissingError, "did you mean 'keyframes'"),
            (".", kinograph.UsageError, "can't read '.'"),
            ({"graph": 5}, kinograph.WorkflowError, "should be a valid dictionary"),
            ({"n": {"class_type": "Nmber", "inputs": {}}}, kinograph.WorkflowError, "did you mean 'Number'"),
            ({}, kinograph.WorkflowError, "there is nothing to run"),
        ],
    )
    def test_what_is_no_workflow_is_refused(
        self, workflow: Any, error: type[kinograph.KinographError], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            run(workflow)

    def test_all_that_is_wrong_is_in_one_error(self) -> None:
        graph = {
            "a": {"class_type": "Number", "inputs": {"value": "5"}},
            "save": {"class_type": "SaveNumber", "inputs": {"numbr": ["a", 0]}},
        }
        with pytest.raises(kinograph.WorkflowError) as caught:
            run(graph)
        assert [(problem.node, problem.input) for problem in caught.value.problems] == [
            ("a", "value"),
            ("save", "numbr"),
            ("save", "number"),
        ]

    def test_what_is_no_kind_of_node_is_refused(self) -> None:
        with pytest.raises(kinograph.UsageError, match="is not a kind of node"):
            run(saving(), nodes=[int])

        class Text(kinograph.Node, version=1):
            def run(self, ctx: kinograph.Context) -> str: ...

        with pytest.raises(kinograph.UsageError, match="two kinds of node are called Text"):
            run(saving(), nodes=[Text])

    def test_kinds_may_come_from_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "mine.py").write_text(
            "from kinograph import Context, Node\n"
            "class Twice(Node, version=1):\n"
            "    text: str\n"
            "    def run(self, ctx: Context) -> str:\n"
            "        return self.text * 2\n"
        )
        graph = {"t": {"class_type": "Twice", "inputs": {"text": "ab"}}}
        assert kinograph.run(graph, nodes=["mine.py"], progress=False)["t"] == "abab"
        assert kinograph.run(graph, nodes="mine.py", progress=False)["t"] == "abab"


class TestInputs:
    def test_they_are_given_by_the_name_that_is_exposed_or_by_node_and_input(self) -> None:
        assert run(saving(), {"number": 3}).paths[0].read_text() == "3"
        assert run(saving(), {"n.value": 4, "save.prefix": "four"}).paths[0].name == "four_00001.txt"

    def test_values_are_taken_as_they_are(self) -> None:
        with pytest.raises(kinograph.WorkflowError, match="node n, input value: should be a valid integer, not '3'"):
            run(saving(), {"number": "3"})

    @pytest.mark.parametrize("weights", [(1, 2.5), [1, 2.5]])
    def test_a_tuple_is_a_list_and_a_list_that_looks_like_a_link_is_none(self, weights: Any) -> None:
        style = {"s": {"class_type": "Style", "inputs": {}}}
        assert run(style, {"s.weights": weights})["s"] == "crayon (1.0, 2.5)"
        choose = {"c": {"class_type": "Choose", "inputs": {"first": True}}}
        assert run(choose, {"c.one": ("c", 0)})["c"] == ["c", 0]

    def test_numpys_numbers_are_numbers(self) -> None:
        import numpy as np

        assert run(saving(), {"number": np.int64(12)}).paths[0].read_text() == "12"
        assert run(saving(), {"number": np.array(13)}).paths[0].read_text() == "13"
        choose = {"c": {"class_type": "Choose", "inputs": {"first": True, "one": 1, "other": 2}}}
        assert run(choose, {"c.first": np.bool_(False)})["c"] == 2

    def test_a_file_is_sought_from_here_before_the_workflows_folder(self, tmp_path: Path) -> None:
        for folder in ("flow", "here"):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "note.txt").write_text(folder)
        (tmp_path / "flow" / "read.json").write_text(
            json.dumps({"read": {"class_type": "ReadFile", "inputs": {"file": "note.txt"}}})
        )
        assert run("flow/read.json")["read"] == "flow"
        assert run("flow/read.json", {"read.file": Path("here/note.txt")})["read"] == "here"
        assert run("flow/read.json", {"read.file": "here/note.txt"})["read"] == "here"

    @pytest.mark.parametrize("value", [b"x", object(), {1: 2}, float("nan"), {3, 4}])
    def test_what_json_has_no_word_for_is_refused(self, value: Any) -> None:
        with pytest.raises(kinograph.WorkflowError, match="input number: a workflow can't hold"):
            run(saving(), {"number": value})

    def test_one_that_is_not_there_is_a_wrong_call(self) -> None:
        with pytest.raises(
            kinograph.UsageError, match=r"'nmber': the workflow has no such input .*did you mean 'number'"
        ):
            run(saving(), {"nmber": 3})


class TestValues:
    def test_until_gives_what_nodes_give_and_runs_nothing_else(self) -> None:
        g = Graph(nodes=TOYS)
        divide = g.Divide(a=g.Number(value=47))
        g.SaveNumber(number=divide.quotient)
        results = g.run(until=divide, progress=False)
        assert results[divide] == (4, 7)
        assert results[divide].remainder == results[divide.remainder] == results["divide"].remainder == 7
        assert results.files == {}
        assert "SaveNumber" not in RAN

    def test_until_may_name_several_nodes_and_some_that_save(self) -> None:
        results = run(saving(), until=["n", "save"])
        assert results["n"] == 7
        assert results["save"] == results.files["save"]

    def test_what_the_workflow_names_as_its_outputs_is_given_under_these_names(self) -> None:
        g = Graph(nodes=TOYS)
        divide = g.Divide(a=47)
        g.SaveNumber(number=divide.quotient)
        g.output(rest=divide.remainder)
        results = g.run(progress=False)
        assert dict(results.values) == {"rest": 7}
        assert len(results.paths) == 1

    def test_where_nothing_is_saved_the_last_nodes_give_their_values(self) -> None:
        g = Graph(nodes=TOYS)
        mixed, other = g.Mix(a=g.Number(value=1)), g.Number(value=5)
        results = g.run(progress=False)
        assert results.values.keys() == {"mix", "number_2"}
        assert results[other] == 5
        assert isinstance(results[mixed], int)

    def test_a_list_is_a_tuple_item_by_item(self) -> None:
        g = Graph(nodes=TOYS)
        count = g.Count(to=3)
        halves, pairs = g.Divide(a=count, by=2), g.Pair(a=count)
        results = g.run(until=[count, halves.quotient, pairs], progress=False)
        assert results[count] == (0, 1, 2)
        assert results[halves.quotient] == (0, 0, 1)
        assert results[pairs] == (0, 1, 1, 2, 2, 3)

    def test_what_a_graph_used_as_a_node_gives(self) -> None:
        part = Graph(name="part", nodes=TOYS)
        divide = part.Divide()
        part.expose(number=divide.inputs.a)
        part.output(whole=divide.quotient, rest=divide.remainder)
        g = Graph(nodes=TOYS)
        used = g.add(part, number=g.Number(value=47))
        assert tuple(g.run(until=used, progress=False)[used]) == (4, 7)
        g.output(rest=used.rest)
        assert g.run(progress=False)["rest"] == 7

    def test_what_is_bypassed_gives_what_it_was_given(self) -> None:
        g = Graph(nodes=TOYS)
        g.output(number=g.Slow(a=g.Number(value=3), mode="bypass"))
        assert g.run(progress=False)["number"] == 3

    def test_a_name_that_gave_nothing_is_told_with_those_that_did(self) -> None:
        results = run(saving(), until="n")
        with pytest.raises(KeyError, match="there is no result of 'nn': did you mean 'n'"):
            results["nn"]

    def test_a_node_that_is_not_there(self) -> None:
        with pytest.raises(kinograph.UsageError, match=r"no node 'sav' .*did you mean 'save'"):
            run(saving(), until="sav")

    def test_files_that_are_only_for_looking_at_say_so(self) -> None:
        g = Graph(nodes=TOYS)
        shown = g.ShowNumber(number=1)
        (file,) = g.run(progress=False).files[shown]
        assert file.temporary
        assert Path(file).read_text() == "1"


class TestErrors:
    def graph(self) -> Graph:
        g = Graph(nodes=TOYS)
        g.SaveNumber(number=g.Fail(), prefix="bad")
        g.SaveNumber(number=5, prefix="good")
        return g

    def test_what_a_node_raised_is_raised_when_all_else_has_run(self) -> None:
        with pytest.raises(kinograph.NodeError, match="node fail: ZeroDivisionError: by design") as caught:
            self.graph().run(progress=False)
        assert Path("output/good_00001.txt").exists()
        assert "toys.py" in caught.value.__notes__[0]

    def test_unchecked_results_tell_of_it(self) -> None:
        results = self.graph().run(check=False, progress=False)
        assert results.status == "failed"
        assert [failure.node for failure in results.failures] == ["fail"]
        assert [path.name for path in results.paths] == ["good_00001.txt"]
        assert "ZeroDivisionError" in repr(results)
        with pytest.raises(kinograph.NodeError):
            results.check()

    def test_what_a_node_raises_of_kinographs_own_keeps_its_class(self) -> None:
        class Picky(kinograph.Node, version=1):
            x: int = 0

            def run(self, ctx: kinograph.Context) -> int:
                raise kinograph.InputError("x is bad", input="x", hint="give another")

        with pytest.raises(kinograph.InputError, match=r"node p, input x: x is bad \(give another\)"):
            kinograph.run({"p": {"class_type": "Picky"}}, nodes=[Picky], progress=False)

    def test_a_file_that_is_missing(self) -> None:
        with pytest.raises(kinograph.MissingError, match=r"node r, input file: there is no file 'no.txt'"):
            run({"r": {"class_type": "ReadFile", "inputs": {"file": "no.txt"}}})

    def test_the_folder_must_be_one(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(kinograph.UsageError, match="file is not a folder"):
            run(saving(), out="file")


class TestStopping:
    @pytest.mark.usefixtures("ctrl_c")
    def test_ctrl_c_ends_the_run_in_good_order(self, gate: threading.Event) -> None:
        told: list[Event] = []

        def interrupt(event: Event) -> None:
            told.append(event)
            if isinstance(event, NodeProgress) and event.done == 2:
                signal.raise_signal(signal.SIGINT)
                gate.set()

        before = signal.getsignal(signal.SIGINT)
        g = Graph(nodes=TOYS)
        slow = g.Slow(a=g.Number(value=2))
        with pytest.raises(KeyboardInterrupt):
            g.run(until=[slow, g.Steps(steps=1000)], on_event=interrupt, progress=False)
        assert isinstance(told[-1], RunFinished)
        assert told[-1].status == "cancelled"
        assert RAN["step"] < 1000
        assert signal.getsignal(signal.SIGINT) is before
        assert g.run(until=slow, progress=False)[slow] == 3  # the session is as good as before

    def test_what_a_listener_raises_ends_the_run_too(self, gate: threading.Event) -> None:
        def stop(event: Event) -> None:
            if isinstance(event, NodeProgress) and event.done == 2:
                gate.set()
                raise RuntimeError("enough")

        g = Graph(nodes=TOYS)
        with pytest.raises(RuntimeError, match="enough"):
            g.run(until=g.Steps(steps=1000), on_event=stop, progress=False)
        assert RAN["step"] < 1000
        assert not [thread for thread in threading.enumerate() if thread.name == "kinograph-node"]


class TestSharing:
    def test_a_second_run_computes_nothing(self) -> None:
        g = Graph(nodes=TOYS)
        slow = g.Slow(a=1)
        first, second = g.run(progress=False), g.run(progress=False)
        assert first[slow] == second[slow] == 2
        assert (first.cached, list(first.timings)) == ((), ["slow"])
        assert (second.cached, list(second.timings)) == (("slow",), [])
        assert "done in" in repr(second)

    def test_what_a_node_reports_is_of_the_run_that_computed_it(self) -> None:
        g = Graph(nodes=TOYS)
        told = g.Tell(a=7)
        first, second = g.run(progress=False), g.run(progress=False)
        assert first.reports == {"tell": {"number": Figure(7), "half": Figure(3.5, "m")}}
        assert second.reports == {}
        assert first[told] == second[told]

    def test_an_attempt_that_failed_leaves_no_report(self) -> None:
        g = Graph(nodes=TOYS)
        g.Tell(a=7, failures=1)
        assert g.run(progress=False).reports == {}

    def test_results_outlive_the_session(self) -> None:
        for _ in range(2):
            with kinograph.Session("cpu", cache_dir="held") as session:
                session.run(saving(), nodes=TOYS, progress=False)
        assert RAN["SaveNumber"] == 1

    def test_unless_they_are_not_kept(self, tmp_path: Path) -> None:
        for _ in range(2):
            with kinograph.Session(keep=False, nodes=TOYS) as session:
                for _ in range(2):
                    session.run(saving(), progress=False)
        assert RAN["SaveNumber"] == 2
        assert not (tmp_path / "home" / "cache").exists()

    def test_a_run_may_do_without_the_cache(self) -> None:
        for _ in range(2):
            run(saving(), cache=False)
        assert RAN["Number"] == 2

    def test_models_stay_in_memory(self) -> None:
        g = Graph()
        picture = g.KeyframeSampler(model=g.ImageModelLoad(source="sprite/sdxl"), prompt="a red fish", steps=1)
        with kinograph.Session() as session:
            loaded = []
            for seed in (1, 2):
                image = session.run(g, {"keyframe_sampler.seed": seed}, progress=False)[picture]
                assert isinstance(image, kinograph.Image)
                loaded.append(set(session._shared.models._slots))
            assert loaded[0] == loaded[1] != set()  # each component is one

    def test_runs_of_several_threads_take_turns(self) -> None:
        started: list[tuple[int, str]] = []

        def one(number: int) -> None:
            g = Graph(nodes=TOYS)
            chain = g.Slow(a=10 * number, seconds=0.001)
            for _ in range(5):
                chain = g.Slow(a=chain, seconds=0.001)

            def note(event: Event) -> None:
                if isinstance(event, NodeStarted):
                    started.append((number, event.node))

            g.run(until=chain, on_event=note, progress=False)

        threads = [threading.Thread(target=one, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        order = [number for number, _ in started]
        assert len(order) == 18
        assert sum(one != other for one, other in pairwise(order)) == 2

    def test_a_node_cannot_wait_for_the_session_that_runs_it(self) -> None:
        class Inner(kinograph.Node, version=1):
            def run(self, ctx: kinograph.Context) -> int:
                return int(run({"n": {"class_type": "Number"}})["n"])

        with pytest.raises(kinograph.UsageError, match="a node can't run a workflow in the session that runs it"):
            kinograph.run({"i": {"class_type": "Inner"}}, nodes=[Inner], progress=False)

    def test_nor_can_one_that_computes_on_a_gpu(self) -> None:
        raised: list[Exception] = []

        class InnerOnDevice(kinograph.Node, version=1, uses="device"):
            def run(self, ctx: kinograph.Context) -> int:
                session.run({"n": {"class_type": "Number"}}, nodes=TOYS, progress=False)
                return 1

        def outer() -> None:
            try:
                session.run({"i": {"class_type": "InnerOnDevice"}}, nodes=[InnerOnDevice], progress=False)
            except kinograph.UsageError as error:
                raised.append(error)

        with fake_cuda(), kinograph.Session("cuda", keep=False) as session:
            thread = threading.Thread(target=outer, daemon=True)  # it would wait for ever
            thread.start()
            thread.join(10)
        (error,) = raised
        assert "a node can't run a workflow in the session that runs it" in str(error)

    @pytest.mark.parametrize("seconds", [1e-6, 1.0])
    def test_a_listener_can_run_a_workflow_whichever_thread_a_node_ran_in(self, seconds: float) -> None:
        found: list[Any] = []

        def run_another(event: Event) -> None:
            if isinstance(event, NodeFinished):
                found.append(session.run(numbered(2), nodes=TOYS, progress=False)["n"])

        with kinograph.Session(keep=False) as session:
            session._shared.costs.record("Number", seconds)  # what is known to be quick runs in this thread
            session.run(numbered(1), nodes=TOYS, on_event=run_another, progress=False)
        assert found == [2]

    def test_it_runs_where_an_event_loop_runs(self) -> None:
        async def cell() -> Any:
            return run({"n": {"class_type": "Number", "inputs": {"value": 5}}})["n"]

        assert asyncio.run(cell()) == 5

    def test_a_closed_session_runs_nothing(self) -> None:
        with kinograph.Session() as session:
            pass
        with pytest.raises(kinograph.UsageError, match="the session is closed"):
            session.run(saving(), nodes=TOYS)

    @pytest.mark.parametrize(
        ("how", "message"),
        [
            ({"device": "gpu"}, "no device is called 'gpu'"),
            ({"device": "cuda:99"}, "torch finds no cuda:99 on this machine"),
            ({"cache_disk": "much"}, "cache_disk much: not a size"),
            ({"keep": False, "cache_dir": "x"}, "keep=False excludes cache_dir"),
            ({"cache_dir": __file__}, "results can't be kept in .*give another cache_dir"),
        ],
    )
    def test_a_session_that_makes_no_sense(self, how: dict[str, Any], message: str) -> None:
        with pytest.raises(kinograph.UsageError, match=message):
            kinograph.Session(**how)

    @pytest.mark.parametrize(
        ("models", "message"),
        [
            ("nowhere", "models .*nowhere isn't there"),
            (["here", 5], "models: the number 5 is not a path"),
            (5, "models: the number 5 is not a folder"),
        ],
    )
    def test_folders_of_models_that_are_none(self, models: Any, message: str) -> None:
        Path("here").mkdir()
        with pytest.raises(kinograph.UsageError, match=message):
            kinograph.Session(models=models)


class TestModelsOfOtherPrograms:
    GRAPH = {  # noqa: RUF012
        "load": {"class_type": "LoRALoad", "inputs": {"file": "neon.safetensors"}},
        "save": {"class_type": "LoRASave", "inputs": {"lora": ["load", 0]}},
    }

    @pytest.fixture
    def comfyui(self) -> Path:
        loras = Path("ComfyUI/models/loras")
        loras.mkdir(parents=True)
        shutil.copy(SHIPPED / "sprite" / "loras" / "neon.safetensors", loras)
        return loras.parents[1]

    def test_a_session_that_is_given_a_folder_finds_them(self, comfyui: Path) -> None:
        with kinograph.Session("cpu", models=comfyui) as session:
            assert len(session.run(self.GRAPH, progress=False).paths) == 1

    def test_the_environment_names_folders_for_all_calls(self, comfyui: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert [problem.node for problem in kinograph.validate(self.GRAPH)] == ["load"]
        monkeypatch.setenv("KINOGRAPH_MODELS", str(comfyui))
        assert kinograph.validate(self.GRAPH) == []
        assert len(kinograph.run(self.GRAPH, progress=False).paths) == 1

    def test_what_is_passed_over_is_warned_of(self, comfyui: Path) -> None:
        (comfyui / "extra_model_paths.yaml").write_text("usb:\n  base_path: nowhere")
        with pytest.warns(UserWarning, match=r"usb\.base_path: there is no folder"):
            kinograph.Session(models=[comfyui])


class TestValidate:
    def test_a_sound_workflow_has_no_problems(self) -> None:
        assert kinograph.validate(saving(), nodes=TOYS) == []
        assert kinograph.validate("keyframes") == []

    def test_whatever_is_wrong_is_told_and_not_raised(self, tmp_path: Path) -> None:
        (tmp_path / "bad.json").write_text("{")
        wrong: list[Any] = ["bad.json", "nowhere.json", {"graph": 1}, {"n": {"class_type": "No"}}, {}]
        for workflow in wrong:
            assert kinograph.validate(workflow)
        (problem,) = kinograph.validate(saving(), {"number": -1}, nodes=TOYS)
        assert (problem.node, problem.input) == ("n", "value")
        assert "greater than or equal to 0" in problem.message

    def test_a_model_that_a_run_would_fetch_is_not_missing(self) -> None:
        load = {"class_type": "LLMLoad", "inputs": {"source": "pypi:some-model==1/model.gguf"}}
        save = {"class_type": "SaveText", "inputs": {"text": "x"}}
        assert kinograph.validate({"llm": load, "save": save}) == []
        wrong = {"class_type": "SaveText", "inputs": {"text": 5}}
        (problem,) = kinograph.validate({"llm": load, "save": wrong})
        assert problem.node == "save"
        load["inputs"] = {"source": "nowhere.gguf"}
        (problem,) = kinograph.validate({"llm": load, "save": save})
        assert (problem.node, problem.input) == ("llm", "source")

    def test_what_is_deprecated_is_told_by_a_warning_each_where_the_call_is(self) -> None:
        graph = saving()["graph"] | {"old": {"class_type": "Former", "inputs": {"speed": 2}}}
        g = Graph(nodes=[*TOYS, Former])
        g.Former(id="old", speed=2)
        for validate in (lambda: kinograph.validate(graph, nodes=[*TOYS, Former]), g.validate):
            with pytest.warns(kinograph.WorkflowWarning) as caught:
                problems = validate()
            assert [str(each.message) for each in caught] == [
                "node old: Former is deprecated: use Number instead",
                "node old, input speed: is deprecated: it makes no difference",
            ]
            assert problems == []
            assert {each.filename for each in caught} == {__file__}
        assert isinstance(caught[1].message, kinograph.WorkflowWarning)
        assert (caught[1].message.problem.node, caught[1].message.problem.input) == ("old", "speed")

    def test_a_workflow_that_is_wrong_is_warned_of_too(self) -> None:
        with pytest.warns(kinograph.WorkflowWarning, match="use Number instead"):
            assert kinograph.validate({"old": {"class_type": "Former", "inputs": {"value": -1}}}, nodes=[Former])
