"""Workflows built by calling kinds."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from types import FrameType
from typing import Any, Literal, NamedTuple

import pytest
from pydantic import BaseModel

import kinograph
from engine.document.workflow import Workflow
from engine.errors import WorkflowError
from kinograph import Graph, Node
from nodes import registry
from tests.engine.toys import Choose, Count, Divide, Mix, Number, ReadFile, SaveNumber, Style, Total

TOYS = [Choose, Count, Divide, Mix, Number, ReadFile, SaveNumber, Style, Total]


@pytest.fixture
def g() -> Graph:
    return Graph(nodes=TOYS)


class TestDocuments:
    def test_it_is_the_workflow_that_one_would_write(self, g: Graph) -> None:
        g.title, g.description = "A sum", "Of numbers."
        number = g.Number(value=3, title="Start")
        mixed = g.Mix(a=number, b=2)
        g.SaveNumber(number=mixed, id="save", mode="mute")
        g.expose(start=number.inputs.value)
        g.output(sum=mixed)
        assert g.document() == {
            "kinograph": 1,
            "title": "A sum",
            "description": "Of numbers.",
            "inputs": {"start": "number.value"},
            "outputs": {"sum": ["mix", 0]},
            "graph": {
                "number": {"class_type": "Number", "inputs": {"value": 3}, "_meta": {"title": "Start"}},
                "mix": {"class_type": "Mix", "inputs": {"a": ["number", 0], "b": 2}},
                "save": {"class_type": "SaveNumber", "inputs": {"number": ["mix", 0]}, "_meta": {"mode": "mute"}},
            },
        }

    def test_it_is_saved_as_a_file_and_read_again(self, g: Graph, tmp_path: Path) -> None:
        g.title = "Schöne „Größe“"
        g.SaveNumber(number=g.Number(value=3))
        path = g.save("flows/number.json")
        assert path == Path("flows/number.json")
        assert "Schöne" in path.read_text("utf-8")
        assert json.loads(path.read_text("utf-8")) == g.document()
        assert kinograph.load(path, nodes=TOYS).workflow == g.workflow == Workflow.read(g.document())

    def test_ids_are_after_kinds_or_given(self, g: Graph) -> None:
        ids = [handle.id for handle in (g.Number(), g.Number(), g.Number(id="third"), g.SaveNumber(number=1))]
        assert ids == ["number", "number_2", "third", "save_number"]
        assert Graph().ImageModelLoad(source="sprite/sdxl").id == "image_model_load"
        assert Graph().LoRALoad(file="x.safetensors").id == "lora_load"
        with pytest.raises(kinograph.UsageError, match="there is a node 'third' already"):
            g.Number(id="third")

    def test_nodes_are_found_by_their_ids(self, g: Graph) -> None:
        number = g.Number()
        assert g["number"] is number
        assert list(g) == [number]
        assert "number" in g
        assert "numbers" not in g
        with pytest.raises(KeyError, match="no node is called 'numbr': did you mean 'number'"):
            g["numbr"]

    def test_a_list_that_looks_like_a_link_is_written_as_a_constant(self, g: Graph) -> None:
        g.Choose(first=True, one=("a", 1), other={"__value__": 2})
        inputs = g.document()["graph"]["choose"]["inputs"]
        assert inputs == {
            "first": True,
            "one": {"__value__": ["a", 1]},
            "other": {"__value__": {"__value__": 2}},
        }

    def test_a_pydantic_model_is_written_as_its_json_schema(self) -> None:
        class Scene(BaseModel):
            light: Literal["dawn", "noon"]

        class Stack(BaseModel):
            frame: FrameType

            model_config = {"arbitrary_types_allowed": True}

        g = Graph()
        llm = g.LLMLoad(source="model")
        given = g.LookaheadDecode(llm=llm, prompt="a", json_schema=Scene)
        text = g.document()["graph"][given.id]["inputs"]["json_schema"]
        assert json.loads(text) == Scene.model_json_schema()
        g.LookaheadDecode(llm=llm, prompt="a", json_schema={"type": "object"})
        with pytest.raises(WorkflowError, match="Stack has no JSON schema"):
            g.LookaheadDecode(llm=llm, prompt="a", json_schema=Stack)
        with pytest.raises(WorkflowError, match="Invalid type: strin"):
            g.LookaheadDecode(llm=llm, prompt="a", json_schema={"type": "strin"})
        with pytest.raises(WorkflowError, match="a workflow can't hold"):
            g.Text(text=Number)

    def test_a_path_is_absolute_and_a_text_stays_as_it_is(self, g: Graph, tmp_path: Path) -> None:
        g.ReadFile(file=Path("a.txt"))
        g.ReadFile(file="b.txt")
        files = [entry["inputs"]["file"] for entry in g.document()["graph"].values()]
        assert files == [str(tmp_path / "a.txt"), "b.txt"]

    def test_inputs_with_names_of_their_own_are_given_in_a_dictionary(self) -> None:
        class Titled(Node, version=1):
            title: str
            id: int = 0
            kind: str = ""

            def run(self, ctx: kinograph.Context) -> str:
                return f"{self.title} {self.id} {self.kind}"

        g = Graph()
        titled = g.add(Titled, {"title": "Snail", "id": 4}, title="A title", kind="x")
        assert g.document()["graph"]["titled"]["_meta"] == {"title": "A title"}
        assert g.run(progress=False)[titled] == "Snail 4 x"


class TestLinks:
    def test_the_outputs_of_a_node_are_attributes_items_and_what_it_unpacks_to(self, g: Graph) -> None:
        divide = g.Divide(a=47)
        quotient, remainder = divide
        for name, ends in {
            "quotient": (quotient, divide.quotient, divide["quotient"], divide[0]),
            "remainder": (remainder, divide.remainder, divide["remainder"], divide[1]),
        }.items():
            for end in ends:
                mixed = g.Mix(a=end)
                assert g.document()["graph"][mixed.id]["inputs"]["a"] == ["divide", name]

    def test_a_node_with_one_output_is_that_output(self, g: Graph) -> None:
        number = g.Number()
        (only,) = number
        for end in (number, number.out, only, number[0]):
            mixed = g.Mix(a=end)
            assert g.document()["graph"][mixed.id]["inputs"]["a"] == ["number", 0]

    def test_which_of_several_outputs_must_be_said(self, g: Graph) -> None:
        with pytest.raises(kinograph.WorkflowError, match=r"input a: Divide gives several things .*\.quotient"):
            g.Mix(a=g.Divide(a=1))

    def test_an_output_that_is_not_there(self, g: Graph) -> None:
        divide = g.Divide(a=1)
        assert not hasattr(divide, "_repr_html_")
        with pytest.raises(AttributeError, match=r"Divide has no output 'reminder' .*did you mean 'remainder'"):
            divide.reminder  # noqa: B018
        with pytest.raises(kinograph.UsageError, match="did you mean 'remainder'"):
            divide["reminder"]
        with pytest.raises(IndexError, match="has 2 outputs"):
            divide[2]

    def test_a_node_of_another_graph(self, g: Graph) -> None:
        with pytest.raises(kinograph.UsageError, match="<Number 'number'> is a node of another graph"):
            g.Mix(a=Graph(nodes=TOYS).Number())

    def test_a_list_of_what_nodes_give(self, g: Graph) -> None:
        with pytest.raises(kinograph.WorkflowError, match="link the input to a node that gives a list"):
            g.Total(numbers=[g.Number(), g.Number()])
        g.Total(numbers=g.Count(to=3))

    def test_links_may_be_set_later(self, g: Graph) -> None:
        mixed = g.Mix(a=1)
        mixed.set(a=g.Number(value=5), b=3)
        assert g.document()["graph"]["mix"]["inputs"] == {"a": ["number", 0], "b": 3}
        with pytest.raises(kinograph.WorkflowError, match="should be a valid integer"):
            mixed.set(b="x", a=2)
        assert g.document()["graph"]["mix"]["inputs"] == {"a": ["number", 0], "b": 3}


class TestMistakes:
    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda g: g.Mix(a="x"), "node mix, input a: should be a valid integer, not 'x'"),
            (lambda g: g.Mix(a=1, c=2), "node mix, input c: Mix has no such input \\(available: a, b, scale\\)"),
            (lambda g: g.Mix(), "node mix, input a: is missing: Mix needs a value of type int"),
            (lambda g: g.Number(value=-1), "node number, input value: should be greater than or equal to 0"),
            (lambda g: g.Style(style="crayn"), "input style: should be 'crayon' or 'pencil'.* mean 'crayon'"),
            (lambda g: g.Mix(a=g.Style()), "input a: takes int, but 'out' of node style is str"),
            (lambda g: g.ReadFile(file=g.Style()), "input file: can't be linked"),
            (lambda g: g.Mix(a=b"1"), "input a: a workflow can't hold a bytes"),
            (lambda g: g.Mix(a=1, mode="muted"), "there is no mode 'muted'"),
            (lambda g: g.Mix(a=1, partial="alow"), "partial is 'alow', but can be allow or fail"),
            (lambda g: g.add("Mxi", a=1), "no kind of node is called 'Mxi' .*did you mean 'Mix'"),
            (lambda g: g.Mxi(a=1), "no kind of node is called 'Mxi' .*did you mean 'Mix'"),
        ],
    )
    def test_they_are_told_at_the_call_and_leave_the_graph_as_it_was(self, g: Graph, call: Any, message: str) -> None:
        with pytest.raises(kinograph.WorkflowError, match=message):
            call(g)
        assert not {"mix", "number"} & g.document()["graph"].keys()

    def test_all_of_a_call_are_told_at_once(self, g: Graph) -> None:
        with pytest.raises(kinograph.WorkflowError) as caught:
            g.Mix(a="x", b="y", c=1)
        assert [problem.input for problem in caught.value.problems] == ["a", "b", "c"]

    def test_a_kind_that_is_not_there_is_no_attribute(self, g: Graph) -> None:
        assert not hasattr(g, "Mxi")
        assert not hasattr(g, "_repr_html_")

    def test_files_need_not_be_there_yet(self, g: Graph) -> None:
        g.SaveNumber(number=1)
        g.ReadFile(file="later.txt")
        (problem,) = g.validate()
        assert "there is no file 'later.txt'" in problem.message

    def test_a_muted_node_may_be_half_done(self, g: Graph) -> None:
        half = g.add("NotYetThere", mode="mute", x=1)
        g.Mix(a=half["anything"], b=half[3])
        g.SaveNumber(number=1)
        assert g.validate() == []


class TestNames:
    def test_exposed_inputs_are_set_by_them(self, g: Graph) -> None:
        number = g.Number()
        g.expose(start=number.inputs.value)
        g.expose({"the start": number.inputs["value"]})
        assert g.run({"start": 4}, progress=False)[number] == 4
        assert g.run({"the start": 5}, progress=False)[number] == 5

    def test_names_are_taken_once_and_stand_for_what_is_there(self, g: Graph) -> None:
        number = g.Number()
        g.expose(start=number.inputs.value)
        g.output(number=number)
        with pytest.raises(kinograph.UsageError, match="an input is exposed as 'start' already"):
            g.expose(start=number.inputs.value)
        with pytest.raises(kinograph.UsageError, match="an output is called 'number' already"):
            g.output(number=number)
        with pytest.raises(AttributeError, match=r"Number has no input 'vlue' .*did you mean 'value'"):
            number.inputs.vlue  # noqa: B018
        wrong: Any = number
        with pytest.raises(kinograph.UsageError, match=r"give an input, such as handle.inputs"):
            g.expose(other=wrong)
        wrong = number.inputs.value
        with pytest.raises(kinograph.UsageError, match="give an output of a node"):
            g.output(other=wrong)


class TestSubgraphs:
    def twice(self) -> Graph:
        """Mixes a number twice; who uses it gives the number."""
        part = Graph(name="Twice", nodes=TOYS)
        first = part.Mix()
        second = part.Mix(a=first, scale=2.0)
        part.expose(number=first.inputs.a, scale=second.inputs.scale)
        part.output(mixed=second)
        return part

    def test_a_graph_is_a_node_of_another(self, g: Graph) -> None:
        used = g.add(self.twice(), number=5)
        again = g.add(self.twice(), number=used, scale=3.0)
        by_hand = g.Mix(a=g.Mix(a=5), scale=2.0)
        results = g.run(until=[used, again, by_hand], progress=False)
        assert results[used] == results[by_hand]
        assert (used.id, again.id) == ("twice", "twice_2")
        assert list(g.document()["subgraphs"]) == ["Twice"]
        assert kinograph.load(g.document(), nodes=TOYS).workflow == g.workflow

    def test_what_it_lacks_is_told_where_it_is_used(self, g: Graph) -> None:
        with pytest.raises(kinograph.WorkflowError, match="node twice/mix, input a: is missing"):
            g.add(self.twice())
        with pytest.raises(kinograph.WorkflowError, match=r"Twice exposes no such input .*did you mean 'number'"):
            g.add(self.twice(), numbr=5)
        assert "subgraphs" not in g.document()

    def test_graphs_may_use_each_other(self, g: Graph) -> None:
        four = Graph(name="Four", nodes=TOYS)
        first = four.add(self.twice())
        four.output(mixed=four.add(self.twice(), number=first))
        four.expose(number=first.inputs.number)
        used = g.add(four, number=g.Number(value=3))
        assert set(g.document()["subgraphs"]) == {"Twice", "Four"}
        assert isinstance(g.run(until=used, progress=False)[used], int)

    def test_two_of_one_name_or_one_without(self, g: Graph) -> None:
        g.add(self.twice(), number=1)
        with pytest.raises(kinograph.UsageError, match="another graph is used as 'Twice' already"):
            g.add(Graph(name="Twice"))
        with pytest.raises(kinograph.UsageError, match="a graph that is used as a node needs a name"):
            g.add(Graph("A title"))


class Halves(NamedTuple):
    first: str
    second: str


class Split(Node, version=1):
    """Cut a text in two."""

    text: str
    """What to cut."""
    at: int = 1
    """Where."""

    def run(self, ctx: kinograph.Context) -> Halves:
        return Halves(self.text[: self.at], self.text[self.at :])


class TestOwnKinds:
    def test_a_class_can_be_added_as_it_is(self) -> None:
        g = Graph()
        halves = g.add(Split, text=g.Text(text="snail"), at=2)
        assert g.run(until=halves, progress=False)[halves] == ("sn", "ail")
        assert g.Split(text="x").id == "split_2"

    def test_one_that_is_defined_anew_takes_the_place_of_the_former(self) -> None:
        def number(value: int) -> type[Node]:
            class Own(Node, version=value):
                def run(self, ctx: kinograph.Context) -> int:
                    return value

            return Own

        g = Graph()
        g.add(number(1))
        own = g.add(number(2))
        assert g.run(until=own, progress=False)[own] == 2

    def test_one_with_the_name_of_another_is_refused(self) -> None:
        class Text(Node, version=1):
            def run(self, ctx: kinograph.Context) -> str: ...

        with pytest.raises(kinograph.UsageError, match="two kinds of node are called Text"):
            Graph(nodes=[Text])

    def test_what_a_graph_knows_comes_along_where_it_is_used(self) -> None:
        part = Graph(name="part", nodes=[Split])
        part.output(first=part.Split(text="snail").first)
        g = Graph()
        used = g.add(part)
        assert g.run(until=used, progress=False)[used] == "s"


class TestHelp:
    def test_the_kinds_are_listed(self, g: Graph) -> None:
        assert {"KeyframeSampler", "Mix", "add", "run"} <= set(dir(g))
        assert set(registry()) <= set(dir(g))
        assert {"quotient", "remainder", "inputs"} <= set(dir(g.Divide(a=1)))
        assert dir(g.Mix(a=1).inputs) == ["a", "b", "scale"]

    def test_a_kind_tells_its_help_and_its_inputs(self) -> None:
        call = Graph(nodes=[Split]).Split
        assert inspect.getdoc(call) == "Cut a text in two.\n\ntext: What to cut.\nat: Where."
        assert str(inspect.signature(call)) == (
            "(*, text: 'str', at: 'int' = 1, "
            "id: 'str | None' = None, title: 'str' = '', mode: 'str' = '', partial: 'str' = '') -> 'Handle'"
        )

    def test_what_is_made_tells_what_it_is(self, g: Graph) -> None:
        divide = g.Divide(a=1)
        assert repr(divide) == "<Divide 'divide'>"
        assert repr(divide.quotient) == "<Divide 'divide'>.quotient"
        assert repr(divide.inputs.a) == "<Divide 'divide'>.inputs.a"
        assert repr(g) == "<Graph '' of 1 nodes>"
