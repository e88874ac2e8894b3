"""Export a workflow as Python code that builds it: calls of `kinograph.Graph`, each after those that it links to.

Variables are named after titles, or else kinds. A workflow that is used as a node is a Graph of its own. Other data in
a file, such as an editor's layout or `$schema`, are left out. All texts are written as literals, and all names consist
of letters, digits and underscores, so nothing in a file can become code.
"""

from __future__ import annotations

import builtins
import keyword
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.cli.literals import arguments, call, dictionary, is_name, literal, member, named
from engine.document.modes import mode_of
from engine.document.names import free_name, node_id, snake_case
from engine.document.partial import partial_of
from engine.document.reading import Document
from engine.document.workflow import Link, NodeEntry, Workflow, as_constant, as_link, split_path
from engine.errors import Problem
from engine.graph.check import check_node, check_without_files
from engine.models.sources import Local, parse
from engine.spec import Input

ABOUT_NODE = ("id", "title", "mode", "partial")
"""A node's arguments other than its inputs; inputs with these names are given in a dictionary."""
HANDLE = ("graph", "id", "inputs", "kind", "set")
"""A handle's attributes other than its node's outputs; outputs with these names are items."""
RESERVED = (*keyword.kwlist, *keyword.softkwlist, *dir(builtins), "Graph", "NODES", "g")


def python_code(document: Document, nodes: Sequence[str] = ()) -> str:
    """Code that builds a workflow as `g`, and runs it if executed as a script.

    Args:
        document: the workflow. Files in its folder get absolute paths.
        nodes: the Python files whose kinds it uses.

    Raises:
        WorkflowError: with all of its problems.
    """
    check_without_files(document.prepared)
    names = _Names()
    lines = ["from kinograph import Graph", ""]
    if nodes:
        lines += [f"NODES = {literal(list(nodes))}", ""]
    for name in _used(document.workflow):
        owner = names.new(name)
        lines += [*_Writer(document, document.workflow.subgraphs[name], owner, names, name).lines(bool(nodes)), ""]
        names.graphs[name] = owner
    lines += [*_Writer(document, document.workflow, "g", names).lines(bool(nodes)), ""]
    return "\n".join([*lines, 'if __name__ == "__main__":', "    g.run()", ""])


class _Names:
    """The variables of the code."""

    def __init__(self) -> None:
        self._taken = set(RESERVED)
        self.graphs: dict[str, str] = {}
        """The variables of graphs that are used as nodes, by the graphs' names."""

    def new(self, *names: Any) -> str:
        """A name that no variable has yet, after the first of these that makes a valid one."""
        words = next((word for name in names if isinstance(name, str) and (word := snake_case(name))), "node")
        free = free_name(f"node_{words}" if words[0].isdigit() else words, self._taken)
        self._taken.add(free)
        return free


class _Writer:
    """Writes one graph: the document's own, or a named one that is used as a node."""

    def __init__(
        self, document: Document, workflow: Workflow, owner: str, names: _Names, name: str | None = None
    ) -> None:
        self._workflow = workflow
        self._owner = owner
        self._names = names
        self._name = name
        self._base = document.base
        self._registry = document.prepared.registry
        self._subgraphs = document.workflow.subgraphs
        self._entries: dict[str, NodeEntry] = {}
        """The arguments of each node's call; links only to earlier nodes."""
        self._later: dict[str, dict[str, Link]] = {}
        """Links to later nodes, where inactive nodes form a cycle."""
        self._variables: dict[str, str] = {}

    def lines(self, has_nodes: bool) -> Iterator[str]:
        """The lines that build it; `has_nodes` says whether there are kinds of node from files."""
        about = {"name": self._name} if self._name is not None else {}
        about |= {key: text for key in ("title", "description", "partial") if (text := getattr(self._workflow, key))}
        yield from call(f"{self._owner} = Graph", arguments(about) + ["nodes=NODES"] * has_nodes)
        for node in _in_order(self._workflow):
            self._include(node)
        self._later = {
            node: found
            for node, links in self._later.items()
            if (found := {k: v for k, v in links.items() if self._valid(v)})
        }
        inputs = {name: at for name, path in self._workflow.inputs.items() if (at := self._exposed(path))}
        outputs = {name: end for name, link in self._workflow.outputs.items() if (end := self._valid(as_link(link)))}
        yield from self._calls({*(node for node, _ in inputs.values()), *(link.node for link in outputs.values())})
        if inputs:
            exposed = {
                name: f"{self._variables[node]}.inputs{member(socket)}" for name, (node, socket) in inputs.items()
            }
            yield from call(f"{self._owner}.expose", _in_order_given(exposed))
        if outputs:
            ends = {name: self._link(link) for name, link in outputs.items()}
            yield from call(f"{self._owner}.output", _in_order_given(ends))

    def _include(self, node: str) -> None:
        """Find the arguments of the call that makes a node of this valid workflow.

        Inactive nodes may be invalid: their links that lead nowhere are left out, and those that no call could make are
        muted, since calls don't check muted nodes.
        """
        entry = self._workflow.graph[node]
        links = {socket: link for socket, value in entry.inputs.items() if (link := as_link(value))}
        later = {socket: link for socket, link in links.items() if link.node not in self._entries}
        kept = {k: value for k, value in entry.inputs.items() if k not in links or self._valid(links[k])}
        entry = entry.model_copy(update={"inputs": kept})
        problems = self._problems(node, entry)
        for socket in kept if self._name is not None else ():
            if problems and f"{node}.{socket}" in self._workflow.inputs.values():  # its users may give it
                without = entry.model_copy(update={"inputs": {k: v for k, v in entry.inputs.items() if k != socket}})
                if len(fewer := self._problems(node, without)) < len(problems):
                    entry, problems = without, fewer
        if problems:
            entry = entry.model_copy(update={"meta": {**entry.meta, "mode": "mute"}})
        self._entries[node] = entry
        if later and mode_of(entry):
            self._later[node] = later

    def _problems(self, node: str, entry: NodeEntry) -> list[Problem]:
        graph = self._entries | {node: entry}
        part = Workflow(graph={}).model_copy(update={"graph": graph, "subgraphs": self._subgraphs})
        return check_node(part, node, self._registry, whole=self._name is None)

    def _calls(self, needed: set[str]) -> Iterator[str]:
        """The calls that make the nodes; nodes that are needed, or linked to, become variables."""
        for entry in self._entries.values():
            needed |= {link.node for link in map(as_link, entry.inputs.values()) if link}
        needed |= self._later.keys() | {link.node for links in self._later.values() for link in links.values()}
        taken = set[str]()
        for node, entry in self._entries.items():
            about = {"id": node} if node != node_id(entry.class_type, taken) else {}
            function, given = self._node(entry, about)
            if node in needed:
                self._variables[node] = self._names.new(entry.meta.get("title"), entry.class_type)
                function = f"{self._variables[node]} = {function}"
            yield from call(function, given)
            taken.add(node)
        for node, links in self._later.items():
            codes = {socket: self._link(link) for socket, link in links.items()}
            yield from call(f"{self._variables[node]}.set", named(codes))

    def _node(self, entry: NodeEntry, about: dict[str, str]) -> tuple[str, list[str]]:
        """The function that makes a node, and its arguments."""
        kind, title, mode = entry.class_type, entry.meta.get("title"), mode_of(entry)
        codes = {
            socket: self._link(link) if (link := as_link(value)) else self._constant(kind, socket, value)
            for socket, value in entry.inputs.items()
        }
        about |= {"title": title} if isinstance(title, str) and title else {}
        about |= {"mode": mode} if mode else {}
        about |= {"partial": partial} if (partial := partial_of(entry)) else {}
        given = [*named(codes, ABOUT_NODE), *arguments(about)]
        are_names = all(is_name(socket) and socket not in ABOUT_NODE for socket in codes)
        if kind in self._registry and is_name(kind) and kind[0].isupper() and are_names:
            return f"{self._owner}.{kind}", given
        return f"{self._owner}.add", [self._names.graphs.get(kind) or literal(kind), *given]

    def _outputs(self, kind: str) -> list[str] | None:
        """The names of a kind's outputs; None if it is unknown."""
        if kind in self._registry:
            return [output.name for output in self._registry[kind].spec.outputs]
        return [*self._subgraphs[kind].outputs] if kind in self._subgraphs else None

    def _valid(self, link: Link | None) -> Link | None:
        """A link, if it leads to an output of a node whose arguments have been found."""
        if link is None or link.node not in self._entries:
            return None
        outputs, slot = self._outputs(self._entries[link.node].class_type), link.slot
        there = outputs is None or (slot in outputs if isinstance(slot, str) else 0 <= slot < len(outputs))
        return link if there else None

    def _link(self, link: Link) -> str:
        outputs, variable = self._outputs(self._entries[link.node].class_type), self._variables[link.node]
        if outputs is None:
            return f"{variable}[{literal(link.slot)}]"
        if len(outputs) == 1:
            return variable
        return variable + member(link.slot if isinstance(link.slot, str) else outputs[link.slot], HANDLE)

    def _exposed(self, path: str) -> tuple[str, str] | None:
        """The node and input that an exposed input leads to, if they exist."""
        node, socket = split_path(path, self._workflow.graph)
        kind = self._entries[node].class_type if node in self._entries else None
        if kind is None:
            return None
        if kind in self._registry:
            return (node, socket) if socket in self._registry[kind].spec.inputs else None
        return (node, socket) if kind not in self._subgraphs or socket in self._subgraphs[kind].inputs else None

    def _constant(self, kind: str, socket: str, value: Any) -> str:
        """A constant; a file that is relative to the workflow's folder gets its absolute path."""
        constant, at = as_constant(value), self._socket(kind, socket)
        if at and at.file and isinstance(constant, str) and self._base:
            place = self._base / constant
            if at.holds == "model":
                source = parse(constant, self._base)
                found = isinstance(source, Local) and source != parse(constant)
            else:
                found = bool((at.file.find or Path.is_file)(place))
            constant = str(place.absolute()) if found else constant
        return literal(constant)

    def _socket(self, kind: str, socket: str) -> Input | None:
        """The input that a socket leads to, through graphs that are used as nodes."""
        while kind in self._subgraphs and socket in self._subgraphs[kind].inputs:
            subgraph = self._subgraphs[kind]
            node, socket = split_path(subgraph.inputs[socket], subgraph.graph)
            kind = subgraph.graph[node].class_type if node in subgraph.graph else ""
        return self._registry[kind].spec.inputs.get(socket) if kind in self._registry else None


def _in_order_given(codes: Mapping[str, str]) -> list[str]:
    """Keyword arguments, or all in a dictionary if some names aren't valid."""
    return named(codes) if all(map(is_name, codes)) else [dictionary(codes)]


def _used(workflow: Workflow) -> list[str]:
    """The graphs that are used as nodes, each after those it uses itself."""
    found: dict[str, None] = {}

    def visit(one: Workflow) -> None:
        for entry in one.graph.values():
            if entry.class_type in workflow.subgraphs and entry.class_type not in found:
                visit(workflow.subgraphs[entry.class_type])
                found[entry.class_type] = None

    visit(workflow)
    return [*found]


def _in_order(workflow: Workflow) -> Iterator[str]:
    """The nodes in the workflow's order, each after those that it links to, unless they form a cycle."""
    seen = set[str]()
    for first in workflow.graph:
        waiting = [(first, False)]
        while waiting:
            node, ready = waiting.pop()
            if ready:
                yield node
            elif node not in seen and node in workflow.graph:
                seen.add(node)
                links = filter(None, map(as_link, workflow.graph[node].inputs.values()))
                waiting += [(node, True), *((link.node, False) for link in reversed([*links]))]
