"""What is known about a kind of node without running it: its inputs, outputs, and how it wants to be run.

The inputs' marks, such as `Lazy` and `FileContents`, stand in `Annotated`; node files import them from `engine.node`.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, Self, Union, get_args, get_origin

from pydantic import Field, GetJsonSchemaHandler, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, to_json

from engine.changes import Changes
from engine.values import Value

Uses = Literal["device", "cpu", "io"]
Outputs = tuple[Any, ...]
NO_CHANGES = Changes()
MayRead = Callable[[Path], bool]
"""Whether a file on this machine may be read."""


def any_file(path: Path) -> bool:
    """Allow every file to be read."""
    return True


class Found(tuple[Path, ...]):
    """Files that a path stands for, with what else was found there and decides results.

    Args:
        files: the files, in order.
        besides: in words, such as why another file isn't among them: "notes.txt is a text".
    """

    besides: tuple[str, ...]

    def __new__(cls, files: Iterable[Path], besides: Iterable[str] = ()) -> Self:
        found = super().__new__(cls, files)
        found.besides = tuple(besides)
        return found


class Find(Protocol):
    """Finds the files that a path stands for, in order; none if it leads nowhere. Omits those that may not be read."""

    def __call__(self, path: Path, may_read: MayRead = any_file, /) -> Sequence[Path]: ...


@dataclass(frozen=True, slots=True)
class FileContents:
    """Marks a string input that names a file: the file's contents enter the cache key."""

    holds: Literal["model", "media", "files"]
    find: Find | None = None
    """For "files": finds them. They may be many and large, so the key holds which files they are and when each was last
    changed, not their contents."""
    is_guess: bool = False
    """Whether `find` stands in for that of a pack that isn't imported: files that it doesn't find may still exist."""
    categories: tuple[str, ...] = ()
    """For "model": the categories of folders that hold such models (`engine.models.folders`), "loras" for example."""
    takes: tuple[str, ...] = ()
    """For "model": in which forms, "folder" or the endings of files without the dot; anything if empty."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        about: dict[str, Any] = {"widget": self.holds}
        about |= {"categories": [*self.categories]} if self.categories else {}
        return handler(schema) | about | ({"takes": [*self.takes]} if self.takes else {})


ModelFile = Annotated[str, FileContents("model")]
"""A model's source: a folder, a file, `hf:owner/name[@revision]`, `pypi:package==version/path`."""

InputFile = Annotated[str, FileContents("media")]
"""A local file, relative to the workflow file's folder or else the working folder."""


@dataclass(frozen=True, slots=True)
class FilePrefix:
    """Marks a string input that the names of the kind's saved files start with."""


@dataclass(frozen=True, slots=True)
class Lazy:
    """Marks an input with a default that is computed only if the kind's `wanted` asks for it."""


@dataclass(frozen=True, slots=True)
class Deprecated:
    """Marks an input with a default that workflows should no longer give, and says what to do instead."""

    instead: str

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return handler(schema) | {"deprecated": True}


def unencodable(data: Any) -> str:
    """What is wrong with the first text in JSON data that UTF-8 can't encode; "" if there is none."""
    waiting = [data]
    for each in waiting:  # grows during the loop
        if isinstance(each, str) and not each.isascii():
            try:
                each.encode()
            except UnicodeEncodeError as error:
                return f"holds U+{ord(each[error.start]):04X}, half of a surrogate pair, which is no character"
        elif isinstance(each, list | tuple):
            waiting += each
        elif isinstance(each, dict):
            waiting += (*each, *each.values())
    return ""


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
    def file(self) -> FileContents | None:
        """The mark of this input, if it names a file."""
        marks = [*self.field.metadata, *_metadata(self.field.annotation)]
        return next((mark for mark in marks if isinstance(mark, FileContents)), None)

    @property
    def holds(self) -> Literal["model", "media", "files"] | None:
        """What the file that this input names holds, if it names one."""
        return self.file.holds if self.file else None

    @cached_property
    def item(self) -> Any:
        """The type of one item, if this input takes a list."""
        return item_of(self.type)

    @property
    def lazy(self) -> bool:
        return any(isinstance(mark, Lazy) for mark in self.field.metadata)

    @property
    def deprecated(self) -> str:
        """What to do instead of giving it; "" unless it is deprecated."""
        return next((mark.instead for mark in self.field.metadata if isinstance(mark, Deprecated)), "")

    @property
    def names_files(self) -> bool:
        return any(isinstance(mark, FilePrefix) for mark in self.field.metadata)

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        constrained: Any = Annotated[self.field.annotation, Field(), *self.field.metadata]
        return TypeAdapter(constrained)

    def validate(self, constant: Any) -> Any:
        """The constant as this input takes it (1 as 1.0, a list as a tuple); raises pydantic's ValidationError."""
        if isinstance(constant, list | dict):
            return self._adapter.validate_json(to_json(constant), strict=True)
        return self._adapter.validate_python(constant, strict=True)


@dataclass(frozen=True)
class Output:
    """One output of a kind of node."""

    name: str
    type: Any

    @cached_property
    def item(self) -> Any:
        """The type of one item, if this output is a list."""
        return item_of(self.type)

    @cached_property
    def validate(self) -> Callable[[Any], Any]:
        """Returns a value as this output's type (an int as a float); raises pydantic's ValidationError."""
        return partial(TypeAdapter(self.type).validator.validate_python, strict=True)


@dataclass(frozen=True, slots=True)
class Pack:
    """A distribution that offers kinds of node, other than Kinograph itself."""

    name: str
    version: str
    state: str = ""
    """A digest of its sources, if these may change under the same version, as those of an editable install do."""

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True)
class Spec:
    """All that is known about a kind of node without running it."""

    kind: str
    version: int
    category: str
    uses: Uses
    """What it occupies while it runs: the device's one compute slot, a core, or neither if it only waits."""
    saves: str
    """What it saves to the output folder, such as "image", which makes it a target of a run; "" if nothing. Kinds that
    save the same under one name number their files in one series."""
    temporary: bool
    """Whether the saved files are only for viewing, and go to the folder of temporary files."""
    retries: int
    """How often it is retried after an exception other than a `KinographError`, such as a lost connection."""
    help: str
    inputs: Mapping[str, Input]
    outputs: tuple[Output, ...]
    named: bool
    """Whether `run` returns a NamedTuple of its outputs, instead of the one output itself."""
    pack: Pack | None = None
    """The pack that offers it; none if it comes with Kinograph, or a file defines it."""
    is_stand_in: bool = False
    """Whether the class stands in for that of a pack that isn't imported."""
    deprecated: str = ""
    """What to use instead; "" unless it is deprecated."""
    volatile: bool = False
    """Whether equal inputs may give other outputs each time. So these are never kept: it runs in every run, and so does
    what depends on it."""
    changes: Changes = NO_CHANGES
    """What became of the inputs of earlier versions."""
    has_remarks: bool = False
    """Whether the class has `remarks_on` of its own."""
    has_checks: bool = False
    """Whether the class has `check_inputs` of its own."""
    libraries: tuple[str, ...] = ()
    """Distributions besides torch, diffusers and transformers whose versions its results depend on, in order."""

    @cached_property
    def required(self) -> tuple[str, ...]:
        """The inputs that must be given."""
        return tuple(name for name, socket in self.inputs.items() if socket.required)

    @cached_property
    def named_files(self) -> dict[str, str]:
        """The default files, by input."""
        files = {name: socket.default for name, socket in self.inputs.items() if socket.holds and not socket.required}
        return {name: file for name, file in files.items() if file is not None}

    @cached_property
    def prefix(self) -> Input | None:
        """The input that the names of saved files start with."""
        return next((socket for socket in self.inputs.values() if socket.names_files), None)

    @cached_property
    def lazy(self) -> tuple[str, ...]:
        """The inputs that are computed only if they are wanted."""
        return tuple(name for name, socket in self.inputs.items() if socket.lazy)

    @cached_property
    def dynamic(self) -> bool:
        """Whether its links, or links to it, may depend on values, through lists or choices."""
        items = [socket.item for socket in self.inputs.values()] + [output.item for output in self.outputs]
        return bool(self.lazy) or any(item is not None for item in items)

    @cached_property
    def storable(self) -> bool:
        """Whether its outputs can be kept on disk, judging by their types."""
        kinds = [output.item or output.type for output in self.outputs]
        return all(kind.storable for kind in kinds if isinstance(kind, type) and issubclass(kind, Value))

    @cached_property
    def has_deprecated(self) -> bool:
        """Whether it or one of its inputs is deprecated."""
        return bool(self.deprecated) or any(socket.deprecated for socket in self.inputs.values())

    def given(self, constants: Mapping[str, Any], linked: Collection[str]) -> dict[str, Any]:
        """Constants by input, with the defaults of the other inputs that are not linked."""
        optional = ((name, socket) for name, socket in self.inputs.items() if not socket.required)
        return {name: socket.default for name, socket in optional if name not in linked} | dict(constants)

    def slot(self, slot: int | str) -> int | None:
        """The index of the output that a link names, by index or name; None if there is no such output."""
        if isinstance(slot, int):
            return slot if 0 <= slot < len(self.outputs) else None
        return next((index for index, output in enumerate(self.outputs) if output.name == slot), None)

    def outputs_of(self, returned: Any) -> tuple[Any, ...]:
        """What `run` returned, as one value per output; raises pydantic's ValidationError."""
        if not self.named:
            return (self.outputs[0].validate(returned),)
        return tuple(output.validate(getattr(returned, output.name)) for output in self.outputs)


def name_of(annotation: Any) -> str:
    """A type as messages and sockets name it: "Image", "int or None", "list of Video"."""
    if (item := item_of(annotation)) is not None:
        return f"list of {name_of(item)}"
    if get_origin(annotation) in (Union, types.UnionType):
        return " or ".join(map(name_of, get_args(annotation)))
    if annotation is types.NoneType:
        return "None"
    is_class = isinstance(annotation, type) and get_origin(annotation) is None
    return annotation.__name__ if is_class else str(annotation).replace("typing.", "")


@cache
def item_of(annotation: Any) -> Any:
    """The type of a list's items (`Image` for `tuple[Image, ...]`), None if it isn't a list."""
    if get_origin(annotation) is tuple and (args := get_args(annotation))[1:] == (Ellipsis,):
        return args[0]
    return None


@cache
def linkable(output: Any, input: Any) -> bool:
    """Whether an output may be linked to an input: like `fits`, and also item by item, to or from a list."""
    outputs, inputs = ({bare, item_of(bare)} - {None} for bare in (output, input))
    return any(fits(given, taken) for given in outputs for taken in inputs)


@cache
def fits(output: Any, input: Any) -> bool:
    """Whether an input of one type may be linked to an output of another; both are bare annotations."""
    if Any in (output, input):
        return True
    if get_origin(output) in (Union, types.UnionType):
        return all(fits(member, input) for member in get_args(output))
    if get_origin(input) in (Union, types.UnionType):
        return any(fits(output, member) for member in get_args(input))
    if get_origin(input) is Literal:
        return type(get_args(input)[0]) is output
    if isinstance(output, type) and isinstance(input, type):
        is_number = output is bool and input is not bool  # to Python, but not to anyone who draws a link
        return (issubclass(output, input) and not is_number) or (output, input) == (int, float)
    return bool(output == input)


def bare(annotation: Any) -> Any:
    """The annotation without Annotated: a type, or a union of types."""
    if get_origin(annotation) is Annotated:
        return bare(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return Union[tuple(map(bare, get_args(annotation)))]  # noqa: UP007
    return annotation


def _metadata(annotation: Any) -> Iterator[Any]:
    """The metadata of every Annotated within an annotation."""
    waiting = [annotation]
    while waiting:
        annotation = waiting.pop()
        yield from getattr(annotation, "__metadata__", ())
        waiting += get_args(annotation)
