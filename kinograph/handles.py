"""Handles for a Graph's nodes, with outputs to link and inputs to expose."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, TypeVar

from engine.document.given import INPUTS_HINT, described
from engine.document.given import named as by_name
from engine.document.workflow import Link
from engine.errors import UsageError, WorkflowError, suggestion

T = TypeVar("T")


class Owner(Protocol):
    """The owner of the nodes: a Graph."""

    def set_inputs(self, handle: Handle, inputs: Mapping[str, Any], /) -> None: ...


class Outlet:
    """One output of a node, to be given to an input."""

    __slots__ = ("handle", "name", "slot")

    def __init__(self, handle: Handle, name: str, slot: int) -> None:
        self.handle = handle
        self.name = name
        self.slot = slot
        """Its index among the outputs."""

    def __repr__(self) -> str:
        return f"{self.handle!r}.{self.name}"


class Inlet:
    """One input of a node, to be exposed."""

    __slots__ = ("handle", "name")

    def __init__(self, handle: Handle, name: str) -> None:
        self.handle = handle
        self.name = name

    def __repr__(self) -> str:
        return f"{self.handle!r}.inputs.{self.name}"


class Inputs:
    """The inputs of a node, by name: `handle.inputs.prompt` or `handle.inputs["prompt"]`."""

    __slots__ = ("_handle", "_names")

    def __init__(self, handle: Handle, names: tuple[str, ...] | None) -> None:
        self._handle = handle
        self._names = names

    def __getitem__(self, name: str) -> Inlet:
        if not isinstance(name, str):
            raise UsageError(
                f"{described(name)} is not the name of an input", node=self._handle.id, hint='such as "prompt"'
            )
        if self._names is not None and name not in self._names:
            hint = suggestion(name, self._names)
            raise UsageError(f"{self._handle.kind} has no input '{name}'", node=self._handle.id, hint=hint)
        return Inlet(self._handle, name)

    def __getattr__(self, name: str) -> Inlet:
        return _attribute(self.__getitem__, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names or ())

    def __dir__(self) -> list[str]:
        return [*self]

    def __repr__(self) -> str:
        return f"<inputs of {self._handle!r}: {', '.join(self) or 'none'}>"


class Handle:
    """A node of a Graph.

    Its outputs are attributes, items by name or index, and iterated over in order. A node with a single output can
    itself be given to an input.
    """

    __slots__ = ("_outputs", "graph", "id", "inputs", "kind")

    def __init__(
        self, graph: Owner, id: str, kind: str, inputs: tuple[str, ...] | None, outputs: tuple[str, ...] | None
    ) -> None:
        self.graph = graph
        self.id = id
        """The node's id in the workflow."""
        self.kind = kind
        self.inputs = Inputs(self, inputs)
        self._outputs = outputs  # None if its kind is unknown, which a muted node's may be

    def set(self, inputs: Mapping[str, Any] | None = None, /, **named: Any) -> None:
        """Set some inputs to constants or links; raises WorkflowError, and changes nothing, if one doesn't fit."""
        self.graph.set_inputs(self, {**by_name(inputs, "inputs", INPUTS_HINT), **named})

    def __getitem__(self, output: str | int) -> Outlet:
        outputs = self._outputs
        if isinstance(output, bool) or not isinstance(output, str | int):
            hint = "give the name of an output, or its index"
            raise UsageError(f"{described(output)} is not an output", node=self.id, hint=hint)
        if isinstance(output, int):
            if outputs is None:
                return Outlet(self, str(output), output)
            if 0 <= output < len(outputs):
                return Outlet(self, outputs[output], output)
            raise IndexError(f"{self.kind} has {len(outputs)} outputs, and none with the index {output}")
        if outputs is None:
            return Outlet(self, output, -1)
        if output not in outputs:
            raise UsageError(f"{self.kind} has no output '{output}'", node=self.id, hint=suggestion(output, outputs))
        return Outlet(self, output, outputs.index(output))

    def __getattr__(self, name: str) -> Outlet:
        return _attribute(self.__getitem__, name)

    def __iter__(self) -> Iterator[Outlet]:
        return (self[name] for name in self._outputs or ())

    def __dir__(self) -> list[str]:
        return ["graph", "id", "inputs", "kind", "set", *(self._outputs or ())]

    def __repr__(self) -> str:
        return f"<{self.kind} '{self.id}'>"


class NoSuchAttribute(UsageError, AttributeError):
    """The node has no such input or output."""


def _attribute(item: Callable[[str], T], name: str) -> T:
    """Look up an item as an attribute; Python's own protocols look up many that don't exist."""
    if name.startswith("_"):
        raise AttributeError(name)
    try:
        return item(name)
    except UsageError as error:
        raise NoSuchAttribute(error.message, node=error.node, hint=error.hint) from None


def node_of(key: str | Handle | Outlet) -> str:
    """The node id of a handle or an output; a string is already an id."""
    handle = key.handle if isinstance(key, Outlet) else key
    return handle.id if isinstance(handle, Handle) else handle


def link_of(given: Handle | Outlet) -> Link:
    """The link for a handle or output given to an input; raises WorkflowError for a node with no or several outputs.

    Where there are several outputs, the link names one, so that files are readable.
    """
    if isinstance(given, Handle):
        outputs = given._outputs
        if outputs is not None and len(outputs) != 1:
            names = ", ".join(outputs)
            raise WorkflowError(
                f"{given.kind} gives {'several things' if outputs else 'nothing'}",
                hint=f"say which, such as .{outputs[0]}: there is {names}" if outputs else None,
            )
        return Link(given.id, 0)
    outputs = given.handle._outputs
    if outputs is not None and len(outputs) == 1:
        return Link(given.handle.id, 0)
    return Link(given.handle.id, given.name if given.slot < 0 or outputs is not None else given.slot)
