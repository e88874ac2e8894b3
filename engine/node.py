"""A node: a frozen pydantic class, built when all of its inputs are there, whose `run` makes the outputs.

    class Repeat(Node, version=1, category="text"):
        \"""Repeat a text.\"""

        text: str
        \"""What to repeat.\"""
        times: Annotated[int, Field(ge=1, le=100)] = 2
        \"""How often.\"""

        def run(self, ctx: Context) -> str:
            return self.text * self.times

Annotations give the sockets, constraints and defaults the widgets, docstrings the help. A NamedTuple as the return
annotation means several named outputs, anything else a single one called "out". `Repeat(text="ab").run(Context())`
runs one by hand.
"""

from __future__ import annotations

import inspect
import types
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, to_json

from engine.errors import Cancelled
from engine.models import Models
from engine.values import Image

Uses = Literal["device", "cpu", "io"]
Preview = Callable[[], Image]


@dataclass(frozen=True, slots=True)
class FileContents:
    """Marks a string input that names a file: what enters the cache key is what the file holds."""

    holds: Literal["model", "media"]

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return handler(schema) | {"widget": self.holds}


ModelFile = Annotated[str, FileContents("model")]
"""A model's source: a folder, a file, `hf:owner/name[@revision]`, `pypi:package==version/path`."""

InputFile = Annotated[str, FileContents("media")]
"""A local file, relative to the workflow file's folder or else the working folder."""


def _ignore_progress(done: int, total: int, unit: str, preview: Preview | None) -> None: ...


def _ignore_text(text: str) -> None: ...


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Context:
    """What a running node may use of the world. `Context()` serves tests: the CPU, models of its own, no listener."""

    device: str = "cpu"
    """A torch device."""
    models: Models = field(default_factory=Models)
    on_progress: Callable[[int, int, str, Preview | None], None] = _ignore_progress
    on_text: Callable[[str], None] = _ignore_text
    cancelled: Callable[[], bool] = _never

    def progress(self, done: int, total: int, *, unit: str = "step", preview: Preview | None = None) -> None:
        """Report that `done` of `total` units are done; raises `Cancelled` if the run was cancelled.

        `preview` is called only if someone looks, perhaps later and from another thread.
        """
        if self.cancelled():
            raise Cancelled
        self.on_progress(done, total, unit, preview)

    def text(self, text: str) -> None:
        """Stream a piece of text that is being written; raises `Cancelled` if the run was cancelled."""
        if self.cancelled():
            raise Cancelled
        self.on_text(text)


@dataclass(frozen=True)
class Input:
    """One input of a kind of node."""

    name: str
    type: Any
    """The annotation, without its constraints."""
    field: FieldInfo

    @property
    def required(self) -> bool:
        return self.field.is_required()

    @property
    def default(self) -> Any:
        return self.field.get_default(call_default_factory=True)

    @property
    def help(self) -> str:
        return inspect.cleandoc(self.field.description or "")

    @cached_property
    def holds(self) -> Literal["model", "media"] | None:
        """What the file that this input names holds, if it names one."""
        marks = [*self.field.metadata, *_metadata(self.field.annotation)]
        return next((mark.holds for mark in marks if isinstance(mark, FileContents)), None)

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        constrained: Any = Annotated[self.field.annotation, Field(), *self.field.metadata]
        return TypeAdapter(constrained, config=Node.model_config)

    def validate(self, literal: Any) -> Any:
        """The literal as this input takes it (1 as 1.0, a list as a tuple); raises pydantic's ValidationError."""
        if isinstance(literal, list | dict):
            return self._adapter.validate_json(to_json(literal))
        return self._adapter.validate_python(literal)


@dataclass(frozen=True, slots=True)
class Output:
    """One output of a kind of node."""

    name: str
    type: Any


@dataclass(frozen=True, slots=True)
class Spec:
    """All that is known of a kind of node without running it."""

    kind: str
    version: int
    category: str
    uses: Uses
    """What it occupies while it runs: the device's one compute slot, a core, or only the wait for something."""
    saves: bool
    """Whether its output is written to the output folder, which makes it a target of a run."""
    help: str
    inputs: Mapping[str, Input]
    outputs: tuple[Output, ...]


class Node(BaseModel):
    """Base of all nodes; a subclass is a kind of node, and its `version` changes whenever its results do."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, protected_namespaces=()
    )
    spec: ClassVar[Spec]

    def __init_subclass__(cls, *, version: int, category: str = "", uses: Uses = "cpu", saves: bool = False) -> None:
        super().__init_subclass__()

    @classmethod
    def __pydantic_init_subclass__(  # type: ignore[override]
        cls, *, version: int, category: str = "", uses: Uses = "cpu", saves: bool = False
    ) -> None:
        inputs = {name: Input(name, _bare(info.annotation), info) for name, info in cls.model_fields.items()}
        about = inspect.cleandoc(cls.__doc__ or "")
        cls.spec = Spec(cls.__name__, version, category, uses, saves, about, inputs, _outputs(cls))

    @abstractmethod
    def run(self, ctx: Context) -> Any:
        """Make the outputs. Equal inputs must give equal outputs, and nothing received may be changed in place."""


def _outputs(cls: type[Node]) -> tuple[Output, ...]:
    returned = get_type_hints(cls.run)["return"]
    if isinstance(returned, type) and issubclass(returned, tuple) and hasattr(returned, "_fields"):
        return tuple(Output(name, hint) for name, hint in get_type_hints(returned).items())
    return (Output("out", returned),)


def _metadata(annotation: Any) -> Iterator[Any]:
    """The metadata of every Annotated within an annotation."""
    waiting = [annotation]
    while waiting:
        annotation = waiting.pop()
        yield from getattr(annotation, "__metadata__", ())
        waiting += get_args(annotation)


def _bare(annotation: Any) -> Any:
    """The annotation without Annotated: a type, or a union of types."""
    if get_origin(annotation) is Annotated:
        return _bare(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return Union[tuple(map(_bare, get_args(annotation)))]  # noqa: UP007
    return annotation
