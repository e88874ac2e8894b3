"""Expand lists and choices: a checked graph becomes one in which every step runs once, with plain links.

A step that takes one item but is linked to a list runs for each item: `sample` becomes `sample[0]`, `sample[1]` and so
on, and so do the steps linked to it, up to an input that takes a list. Lists that meet in a step are paired item by
item, so they must have the same length. A step keeps only those of its lazy inputs that it wants.

The length of a list and the values that a choice depends on may become known only during the run. `expand` goes as far
as it can and returns what it awaits; a run calls it again as values come in, and when an item fails. What takes the
whole list is lost then too, unless it takes what is left of it (`Step.partial`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

from pydantic import ValidationError

from engine.document.workflow import item_id
from engine.errors import Problem
from engine.graph.graph import Gathered, Graph, Source, Step
from engine.values import Value


class _Opaque(Enum):
    OPAQUE = "opaque"


OPAQUE = _Opaque.OPAQUE
"""Stands for a value that isn't a plain constant: only its presence matters."""

Structure = tuple[Any, ...]
"""What expansion needs of a node's outputs: constants as they are, `OPAQUE` for others, tuples of these for lists."""


def structure_of(outputs: Sequence[Any]) -> Structure:
    """The structure of a node's outputs."""
    return tuple(structure_of(o) if isinstance(o, tuple) else OPAQUE if isinstance(o, Value) else o for o in outputs)


class _Constant(NamedTuple):
    value: Any


_Item = Source | _Constant


@dataclass(frozen=True)
class Expansion:
    """A graph, expanded as far as possible."""

    graph: Graph
    """Its targets are the steps expanded so far that are targets."""
    targets: tuple[str, ...]
    """All steps that the run is for; a node that runs for a list not known yet is one of them."""
    awaited: tuple[str, ...] = ()
    """The steps of it whose outputs must be known to go on; none if expansion is complete."""
    failures: Mapping[str, Problem] = field(default_factory=dict)
    """Nodes that can't run because of the lists they are linked to."""
    lost: Mapping[str, str] = field(default_factory=dict)
    """The steps that can't run because of a failure, and the node that failed, which may be the same."""


def expand(graph: Graph, known: Mapping[str, Structure], failed: Collection[str] = ()) -> Expansion:
    """Expand a graph as far as possible.

    Args:
        graph: what `check` returned.
        known: the structures of the outputs known so far, by step of the expanded graph.
        failed: the steps of the expanded graph that have failed.
    """
    if not graph.dynamic:
        return Expansion(graph, graph.targets)
    expander = _Expander(graph, known, failed)
    for node in graph.order:
        expander.expand(graph.steps[node])
    targets = [(step, node) for node in graph.targets for step in expander.copies(node)]
    awaited, lost = expander.reached([step for step, _ in targets])
    parts = {step: graph.part_of(node) for step, node in targets if step in expander.steps}
    expanded = Graph(graph.workflow, expander.steps, tuple(expander.steps), tuple(parts), parts)
    return Expansion(expanded, tuple(step for step, _ in targets), awaited, expander.failures, lost)


class _Waiting(Exception):
    """A step can't be expanded before another has been, or has run; the argument is the other's id."""


class _Lost(Exception):
    """A step can't run because another can't; the argument is the other's id."""


class _Expander:
    """Expands steps, each after those it depends on."""

    def __init__(self, graph: Graph, known: Mapping[str, Structure], failed: Collection[str]) -> None:
        self.graph = graph
        self.known = known
        self.steps: dict[str, Step] = {}
        self.failures: dict[str, Problem] = {}
        # Why a step isn't expanded, by its id in the expanded graph.
        self._blames: dict[str, str] = dict(zip(failed, failed, strict=True))
        self._blockers: dict[str, str] = {}
        """The step that a step waits for, or the lost one that it depends on."""
        self._copies: dict[str, tuple[str, ...]] = {}
        self._incomplete: dict[str, str] = {}
        """The nodes that run for items of which some are unknown, since the step that makes them is lost: that step."""

    def copies(self, node: str) -> tuple[str, ...]:
        """The steps that a node expands to: itself, if it doesn't run for the items of a list, or not yet."""
        return self._copies.get(node, (node,))

    def expand(self, step: Step) -> None:
        """Expand a step of the checked graph into one for each item, if the items are known."""
        try:
            spec = step.kind.spec
            eager = [name for name in step.links if name not in spec.lazy]
            for name in eager:
                self._wait_for_list(_source(step, name).node)
            if spec.lazy and not any(self._maps(step, name) for name in eager):
                step = self._without_unwanted(step, {name: self._full_link(step, name) for name in eager})
            for name in step.links:
                self._wait_for_list(_source(step, name).node)
            items = {name: self._items(step.links[name]) for name in step.links if self._maps(step, name)}
            full = {name: self._full_link(step, name) for name in step.links if name not in items}
        except (_Waiting, _Lost) as end:
            self._stop(step.id, end)
            return
        lengths = {name: len(of) for name, of in items.items()}
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"{length} for {name}" for name, length in lengths.items())
            hint = "lists that meet are paired item by item, so give them the same length"
            self.failures[step.id] = Problem(f"is linked to lists of different lengths: {listed}", step.id, hint=hint)
            self._blames[step.id] = step.id
        elif items:
            count = next(iter(lengths.values()))
            self._copies[step.id] = tuple(item_id(step.id, index) for index in range(count))
            if lost := next(filter(None, (self._unknown(step.links[name]) for name in items)), None):
                self._incomplete[step.id] = lost
            for index, copy in enumerate(self._copies[step.id]):
                self._add(step._replace(id=copy), full | {name: of[index] for name, of in items.items()})
        else:
            self._add(step, full)

    def reached(self, targets: Sequence[str]) -> tuple[tuple[str, ...], dict[str, str]]:
        """Of the targets and what they need, the awaited steps, and the lost ones with the node to blame."""
        awaited, lost = dict[str, None](), dict[str, str]()
        waiting = list(targets)
        while waiting:
            step = waiting.pop()
            if step in self._blames and step not in lost:
                lost[step] = self._blames[step]
            if blocker := self._blockers.get(step):
                if blocker in self.steps:
                    awaited[blocker] = None
                else:
                    waiting.append(blocker)
        return tuple(awaited), lost

    def _stop(self, step: str, end: Exception) -> None:
        (blocker,) = end.args
        self._blockers[step] = blocker
        if isinstance(end, _Lost):
            self._blames[step] = self._blames[blocker]

    def _wait_for_list(self, node: str) -> None:
        """Raise `_Waiting` if it isn't known yet whether a node runs for the items of a list."""
        if node in self._blockers and node not in self._blames and node in self.graph.mapped:
            raise _Waiting(node)

    def _maps(self, step: Step, name: str) -> bool:
        """Whether a link leads from a list to an input that takes one item."""
        return step.kind.spec.inputs[name].item is None and self._is_list(_source(step, name))

    def _is_list(self, source: Source) -> bool:
        producer = self.graph.steps[source.node]
        return source.node in self._copies or producer.kind.spec.outputs[source.output].item is not None

    def _full_link(self, step: Step, name: str) -> Source | Gathered:
        """All that an input is linked to, without lost items; raises `_Lost` if the step needs these."""
        link = _source(step, name)
        if link.node in self._copies:
            copies = self._copies[link.node]
            left = tuple(Source(copy, link.output) for copy in copies if copy not in self._blames)
            lost = next((copy for copy in copies if copy in self._blames), None) or self._incomplete.get(link.node)
            if lost is None or (step.partial and left):
                return Gathered(left)
            if name not in step.kind.spec.lazy:
                raise _Lost(lost)
            return Gathered((Source(lost, 0),))  # matters only if it is wanted
        takes_list = step.kind.spec.inputs[name].item is not None
        return Gathered((link,)) if takes_list and not self._is_list(link) else link

    def _items(self, link: Source | Gathered) -> tuple[_Item, ...]:
        """The items of the list that an input is linked to, including lost ones that were known."""
        assert isinstance(link, Source)
        self._check(link.node)
        if self.graph.steps[link.node].kind.spec.outputs[link.output].item is None:
            return tuple(Source(copy, link.output) for copy in self._copies[link.node])
        items: list[_Item] = []
        for copy in self.copies(link.node):
            # Known items of a lost step keep their indices, so that the steps for later items keep theirs.
            if copy not in self._blames or copy in self.known:
                listed = self._known(copy)[link.output]
                items += [Source(copy, link.output, i) if v is OPAQUE else _Constant(v) for i, v in enumerate(listed)]
        return tuple(items)

    def _unknown(self, link: Source | Gathered) -> str | None:
        """A lost step that would have made items of the list that an input is linked to; None if all are known."""
        assert isinstance(link, Source)
        if self.graph.steps[link.node].kind.spec.outputs[link.output].item is not None:
            for copy in self.copies(link.node):
                if copy in self._blames and copy not in self.known:
                    return copy
        return self._incomplete.get(link.node)

    def _known(self, step: str) -> Structure:
        if step not in self.known:
            self._check(step)
            raise _Waiting(step)
        return self.known[step]

    def _check(self, step: str) -> None:
        """Raise if a step isn't expanded."""
        if step in self._blames:
            raise _Lost(step)
        if step in self._blockers:
            raise _Waiting(step)

    def _add(self, step: Step, links: Mapping[str, Source | Gathered | _Constant]) -> None:
        """Add a step, with links to expanded steps, to the expanded graph."""
        if step.id in self._blames:
            return
        given = {
            name: _validated(step, name, link.value) for name, link in links.items() if isinstance(link, _Constant)
        }
        linked = {name: link for name, link in links.items() if not isinstance(link, _Constant)}
        step = step._replace(constants={**step.constants, **given}, links=linked)
        try:
            if lazy := step.kind.spec.lazy:
                step = self._without_unwanted(step, {name: linked[name] for name in linked if name not in lazy})
            for source in step.sources():
                self._check(source.node)
        except (_Waiting, _Lost) as end:
            self._stop(step.id, end)
        else:
            self.steps[step.id] = step

    def _without_unwanted(self, step: Step, eager: Mapping[str, Source | Gathered]) -> Step:
        """The step without the lazy inputs that it doesn't want, given the values of its other links."""
        spec = step.kind.spec
        given = {name: socket.default for name, socket in spec.inputs.items() if not socket.required}
        given |= step.constants
        given |= {name: self._value(link) for name, link in eager.items()}
        dropped = set(spec.lazy) - set(step.kind.wanted({k: v for k, v in given.items() if k not in spec.lazy}))
        return step._replace(
            constants={name: value for name, value in step.constants.items() if name not in dropped},
            links={name: link for name, link in step.links.items() if name not in dropped},
        )

    def _value(self, link: Source | Gathered) -> Any:
        if isinstance(link, Gathered):
            values = list(map(self._value, link.sources))
            return tuple(item for value in values for item in (value if isinstance(value, tuple) else (value,)))
        known = self._known(link.node)[link.output]
        return known if link.item is None else known[link.item]


def _source(step: Step, name: str) -> Source:
    """What an input of a checked graph is linked to."""
    link = step.links[name]
    assert isinstance(link, Source)
    return link


def _validated(step: Step, name: str, item: Any) -> Any:
    """An item as the input takes it; an invalid one stays as it is, and the step fails on it when it runs."""
    try:
        return step.kind.spec.inputs[name].validate(item)
    except ValidationError:
        return item
