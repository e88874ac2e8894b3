"""Check a workflow against a registry: every node known, every input present and in range, every link valid.

All problems are reported at once, so that a file can be corrected in one go: by `examine` as a verdict, by `check` in
one error.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import networkx as nx
from pydantic import ValidationError

from engine.document.formats import elsewhere
from engine.document.jsontext import is_finite
from engine.document.modes import mode_of
from engine.document.partial import allows_partial
from engine.document.prepared import Prepared, prepare
from engine.document.subgraphs import outermost
from engine.document.workflow import Link, NodeEntry, Workflow, as_constant, as_link, split_id, split_path
from engine.errors import InputError, MissingError, Problem, WorkflowError, plainly, suggestion
from engine.graph.confinement import Confinement
from engine.graph.contents import Contents
from engine.graph.graph import Graph, Source, Step
from engine.models import can_fetch, find
from engine.models.folders import NO_FOLDERS, ModelFolders
from engine.node import Node
from engine.registry import Registry
from engine.spec import Input, linkable, name_of, unencodable

CAUSES = {
    **dict.fromkeys(("literal_error", "enum"), "value_not_in_list"),
    **dict.fromkeys(("greater_than", "greater_than_equal"), "value_smaller_than_min"),
    **dict.fromkeys(("less_than", "less_than_equal"), "value_bigger_than_max"),
}
"""Sorts of mistakes, in the words of ComfyUI's protocol, by pydantic's."""
MOST_HINTS = 100
"""Problems up to which similar names are looked for."""


@dataclass(frozen=True)
class Verdict:
    """Whether a workflow can be run, and what keeps it from that."""

    prepared: Prepared
    nodes: int
    """How many nodes it has, with its subgraphs inlined, without muted and bypassed ones."""
    targets: tuple[str, ...]
    """The nodes whose outputs a run is for; none if it can't be run."""
    problems: tuple[Problem, ...]
    """Its mistakes."""
    missing: tuple[Problem, ...]
    """The models and files that are not on this machine and that no run would fetch."""
    unfetched: tuple[Problem, ...]
    """The models that are not on this machine, and that a run fetches before it can be planned."""
    graph: Graph | None
    """The checked graph, if it can be planned."""

    @property
    def can_run(self) -> bool:
        """Whether it can be run, if need be after its models have been fetched."""
        return not (self.problems or self.missing)

    def to_fetch(self) -> tuple[str, ...]:
        """The sources of all models that a run would fetch, now; reads the folders of models."""
        return tuple(source for source in self.prepared.models if can_fetch(source) and find(source) is None)

    def error(self) -> WorkflowError | MissingError:
        """Why it can't be run, as one error; there must be a reason."""
        return (WorkflowError if self.problems else MissingError).of(self.problems + self.missing)


def check(
    prepared: Prepared,
    *,
    base: Path | None = None,
    targets: Collection[str] | None = None,
    roots: Mapping[str, Path] | None = None,
    folders: ModelFolders = NO_FOLDERS,
) -> Graph:
    """The workflow as a graph that can be planned; arguments as for `examine`.

    Raises:
        WorkflowError: with every problem found.
        MissingError: if the only problems are missing models or files.
    """
    found = examine(prepared, base=base, targets=targets, roots=roots, folders=folders)
    if found.graph is None:
        raise found.error() if not found.can_run else MissingError.of(found.unfetched)
    return found.graph


def examine(
    prepared: Prepared,
    *,
    base: Path | None = None,
    targets: Collection[str] | None = None,
    roots: Mapping[str, Path] | None = None,
    folders: ModelFolders = NO_FOLDERS,
) -> Verdict:
    """Check a workflow; a model that a run would fetch doesn't keep it from being valid.

    Args:
        prepared: the workflow, and the kinds of node that it may use.
        base: the folder to which the files it names are relative (the workflow file's), before the working folder.
        targets: the nodes whose outputs are wanted; those that save files if None.
        roots: the only folders that may be read, by name. Then media are relative to "input" and models to "models",
            unless a name ends in another folder's: `snail.png [output]`. Models that ship with Kinograph, or come from
            elsewhere (`hf:`, `pypi:`), may still be used.
        folders: further folders of models, which are looked through last.
    """
    confinement = None if roots is None else Confinement(roots, folders)
    files = Contents(base, confinement, folders)
    checker = _Checker(prepared, files)
    entries = prepared.active.graph
    steps = {node: step for node, entry in entries.items() if (step := checker.step(node, entry))}
    checker.exposed()
    if targets is None:
        targets = [node for node, step in steps.items() if step.kind.spec.saves]
    else:
        targets = list(dict.fromkeys(end for node in targets for end in prepared.outputs.get(node, (node,))))
    if targets or len(steps) == len(entries):  # a node of unknown kind might have been one that saves
        checker.targets(targets)

    order = checker.order(steps)
    graph = None
    if not (checker.problems or checker.missing):
        graph = Graph(
            *(prepared.workflow, steps, order, tuple(targets)),
            places=prepared.places,
            confinement=confinement,
            warnings=prepared.warnings,
            registry=prepared.registry,
            flat=prepared.flat.graph,
            in_folders=frozenset(files.in_folders),
        )
    missing, unfetched = prepared.divided(checker.missing) if checker.missing else ((), ())
    problems = tuple(checker.problems)
    aim = () if problems or missing else tuple(targets)
    return Verdict(prepared, len(entries), aim, problems, missing, unfetched, graph)


def check_without_files(prepared: Prepared) -> None:
    """Check a workflow like `check`, but without targets, and without accessing the files that it names.

    Raises:
        WorkflowError: with every problem found.
    """
    checker = _Checker(prepared, None)
    checked = (checker.step(node, entry) for node, entry in prepared.active.graph.items())
    steps = {step.id: step for step in checked if step}
    checker.exposed()
    checker.order(steps)
    if checker.problems:
        raise WorkflowError.of(checker.problems)


def check_node(workflow: Workflow, node: str, registry: Registry, *, whole: bool = True) -> list[Problem]:
    """The problems that `check` would find with one node, without those of its files, which may not exist yet.

    A node that is muted or bypassed, or needs one that is, isn't checked. Unless the workflow is `whole`, required
    inputs may be missing, as they may be given where it is used as a node.
    """
    near, waiting = {node: workflow.graph[node]}, [node]
    while waiting:  # the nodes that it is linked to, and those behind bypassed ones
        for link in filter(None, map(as_link, near[waiting.pop()].inputs.values())):
            entry = workflow.graph.get(link.node)
            if entry and link.node not in near:
                near[link.node] = entry
                waiting += [link.node] if mode_of(entry) else []
    prepared = prepare(workflow.model_copy(update={"graph": near, "inputs": {}, "outputs": {}}), registry)
    checker = _Checker(prepared, None, whole=whole)
    for name, entry in prepared.active.graph.items():
        if outermost(name) == node:
            checker.step(name, entry)
    return [problem for problem in checker.problems if problem.node is None or outermost(problem.node) == node]


class _Checker:
    """Collects problems while it turns a workflow's entries into steps; without `files` it ignores files."""

    def __init__(self, prepared: Prepared, files: Contents | None, *, whole: bool = True) -> None:
        self.prepared = prepared
        self.graph = prepared.active.graph
        self.kinds = dict(prepared.registry)
        self.files = files
        self.whole = whole
        self.problems = list(prepared.problems)
        self.reported = {(problem.node, problem.input) for problem in self.problems}
        self.missing: list[Problem] = []

    def step(self, node: str, entry: NodeEntry) -> Step | None:
        """The checked entry, without invalid inputs; None if its kind is unknown."""
        if split_id(node)[1] is not None:
            self.problems.append(Problem("a node's id can't end in a number in brackets: ids of list items do", node))
        kind = self.kinds.get(entry.class_type)
        if kind is None:
            hint = elsewhere(entry.class_type, entry.meta) or self._near(entry.class_type, self.kinds)
            hints = filter(None, (hint, self.prepared.registry.why_not(entry.class_type)))
            message = f"no kind of node is called '{entry.class_type}'"
            self.problems.append(Problem(message, node, hint="; ".join(hints) or None, cause="missing_node_type"))
            return None
        found = len(self.problems) + len(self.missing)
        constants: dict[str, Any] = {}
        links: dict[str, Source] = {}
        contents: dict[str, str] = {}
        sockets, changes, converted = kind.spec.inputs, kind.spec.changes, set[str]()
        for name, value in (kind.spec.named_files | entry.inputs).items():
            if (socket := sockets.get(name)) is None:
                if kind.spec.is_stand_in and name in changes.replaced and not as_link(value):
                    converted.update(changes.replaced[name])  # by the pack's own code, when the workflow runs
                elif (node, name) not in self.reported:
                    hint = changes.hint(name) or self._near(name, sockets)
                    self.problems.append(Problem(f"{entry.class_type} has no such input", node, name, hint))
            elif link := as_link(value):
                if source := self._source(node, socket, link):
                    links[name] = source
            else:
                self._constant(node, socket, as_constant(value), constants, contents)
        for name in kind.spec.required:
            if self.whole and name not in entry.inputs and name not in converted:
                wanted = f"a value of type {name_of(sockets[name].type)}"
                if holds := sockets[name].holds:
                    wanted = "a folder, or a pattern of files" if holds == "files" else f"the name of a {holds} file"
                message = f"is missing: {entry.class_type} needs {wanted}"
                self.problems.append(Problem(message, node, name, cause="required_input_missing"))
        if kind.spec.has_checks and self.whole and len(self.problems) + len(self.missing) == found:
            self._together(node, kind, kind.spec.given(constants, links))
        return Step(node, kind, constants, links, contents, allows_partial(entry, self.prepared.active))

    def _source(self, node: str, socket: Input, link: Link) -> Source | None:
        """Where a link leads; None if nowhere, which is then reported."""
        producer = self.graph.get(link.node)
        kind = self.kinds.get(producer.class_type) if producer else None
        index = kind.spec.slot(link.slot) if kind else None
        if kind and index is not None and not socket.holds and linkable(kind.spec.outputs[index].type, socket.type):
            return Source(link.node, index)

        hint, cause = None, "bad_linked_input"
        if producer is None:
            message = f"links to node {link.node}, which doesn't exist"
            hint = self._near(link.node, self.graph)
            if isinstance(link.slot, str) and socket.item is str:  # two texts look like a link to a named output
                hint = f"if it is a list of two texts, write {json.dumps({'__value__': [link.node, link.slot]})}"
        elif kind is None:
            return None  # reported with that node
        elif index is None:
            message = f"node {link.node} ({producer.class_type}) has no output {link.slot}"
            hint = self._near(str(link.slot), [output.name for output in kind.spec.outputs])
        elif socket.holds:
            message = "can't be linked: the file's contents must be known before the run"
            hint = "write the file's name here"
        else:
            output = kind.spec.outputs[index]
            cause = "return_type_mismatch"
            message = f"takes {name_of(socket.type)}, but '{output.name}' of node {link.node} is {name_of(output.type)}"
        self.problems.append(Problem(message, node, socket.name, hint, cause))
        return None

    def _near(self, name: str, names: Collection[str]) -> str | None:
        """A suggestion, unless there are so many problems that finding them all would take long."""
        return suggestion(name, names) if len(self.problems) < MOST_HINTS else None

    def _constant(
        self, node: str, socket: Input, value: Any, constants: dict[str, Any], contents: dict[str, str]
    ) -> None:
        if not is_finite(value):
            self.problems.append(Problem(f"must be finite, not {value}", node, socket.name, cause="invalid_input_type"))
            return
        if not socket.file and (wrong := unencodable(value)):  # a file's name may be any bytes
            self.problems.append(Problem(wrong, node, socket.name, "leave it out", "invalid_input_type"))
            return
        try:
            value = socket.validate(value)
            if socket.file and value is not None and self.files:
                value, contents[socket.name] = self.files.of(socket.file, value)
            constants[socket.name] = value
        except ValidationError as error:
            self.problems += _constant_problems(node, socket, error)
        except MissingError as error:
            cause = "value_not_in_list" if socket.holds == "model" else "custom_validation_failed"
            self.missing.append(Problem(error.message, node, socket.name, error.hint, cause))
        except (WorkflowError, InputError) as error:
            self.problems.append(Problem(error.message, node, socket.name, error.hint, "custom_validation_failed"))

    def _together(self, node: str, kind: type[Node], given: Mapping[str, Any]) -> None:
        """Check that inputs that are valid by themselves go together."""
        try:
            kind.check_inputs(given)
        except MissingError as error:
            self.missing += (replace(problem, node=node) for problem in error.problems)
        except InputError as error:
            self.problems += (replace(problem, node=node) for problem in error.problems)

    def exposed(self) -> None:
        """Check that the inputs that the document exposes exist."""
        for name, path in self.prepared.workflow.inputs.items():
            node, socket = split_path(path, self.prepared.workflow.graph)
            if self.prepared.leads_to(node, socket) is None:
                message = f"the exposed input '{name}' leads to '{path}', which doesn't exist"
                self.problems.append(Problem(message, hint=self.prepared.why_gone(node, socket)))

    def order(self, steps: Mapping[str, Step]) -> tuple[str, ...]:
        """All steps, each after those it depends on; none if some depend on one another, which is reported."""
        dag: nx.DiGraph[str] = nx.DiGraph()
        dag.add_nodes_from(steps)
        dag.add_edges_from((source.node, step.id) for step in steps.values() for source in step.sources())
        try:
            return tuple(nx.topological_sort(dag))
        except nx.NetworkXUnfeasible:
            self.problems += _cycles(dag)
            return ()

    def targets(self, targets: Collection[str]) -> None:
        """Check that there is something to run, and that it exists."""
        for node in targets:
            if node in self.prepared.flat.graph and node not in self.graph:
                self.problems.append(Problem("can't be run: it, or what it needs, is muted or bypassed", node))
            elif node not in self.graph:
                hint = self._near(node, self.graph)
                self.problems.append(Problem(f"no node is called '{node}', so it can't be run", hint=hint))
        if not targets:
            savers = [name for name, kind in self.kinds.items() if kind.spec.saves]
            hint = f"add one of {', '.join(savers)}" if savers else None
            self.problems.append(
                Problem("there is nothing to run: no node saves anything", hint=hint, cause="prompt_no_outputs")
            )


def _constant_problems(node: str, socket: Input, error: ValidationError) -> Iterator[Problem]:
    for detail in error.errors(include_url=False):
        where = "".join(f"[{part!r}]" for part in detail["loc"])
        message, hint = plainly(detail["msg"]), None
        if detail["type"] in ("is_instance_of", "needs_python_object"):
            message, hint = f"takes {name_of(socket.type)}", "link it to an output that gives one"
        elif detail["type"] == "literal_error":
            hint = suggestion(str(detail["input"]), [str(choice) for choice in get_args(socket.type)])
        found = repr(detail["input"])
        found = found if len(found) <= 60 else f"{found[:57]}…"
        yield Problem(f"{where} {message}, not {found}".strip(), node, socket.name, hint, _cause(detail["type"]))


def _cause(error: str) -> str:
    """What sort of mistake an error of pydantic's is."""
    if error in CAUSES:
        return CAUSES[error]
    is_type = error.endswith(("_type", "_parsing")) or error in ("is_instance_of", "needs_python_object")
    return "invalid_input_type" if is_type else "custom_validation_failed"


def _cycles(dag: nx.DiGraph[str]) -> Iterator[Problem]:
    """One cycle, as a path, for each group of nodes that depend on one another."""
    for knot in nx.strongly_connected_components(dag):
        start = next(iter(knot))
        if len(knot) > 1 or dag.has_edge(start, start):
            path = [edge[0] for edge in nx.find_cycle(dag.subgraph(knot), start)]
            message = f"the nodes form a cycle: {' → '.join([*path, path[0]])}"
            yield Problem(message, path[0], cause="dependency_cycle")
