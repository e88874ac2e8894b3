"""A node: a frozen pydantic class, built once all of its inputs are available, whose `run` computes the outputs.

    class Repeat(Node, version=1, category="text"):
        \"""Repeat a text.\"""

        text: str
        \"""What to repeat.\"""
        times: Annotated[int, Field(ge=1, le=100)] = 2
        \"""How often.\"""

        def run(self, ctx: Context) -> str:
            return self.text * self.times

Annotations give the sockets, constraints and defaults the widgets, docstrings the help. A NamedTuple as the return
annotation means several named outputs, anything else a single one called "out"; `tuple[Image, ...]` is a list of
pictures. `Repeat(text="ab").run(Context())` runs one by hand.
"""

from __future__ import annotations

import inspect
import logging
import re
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from engine.changes import Changes
from engine.errors import Cancelled, Problem
from engine.figures import Figure, Given, Report, bounded
from engine.models import Models
from engine.spec import (
    Deprecated,
    FileContents,
    FilePrefix,
    Found,
    Input,
    InputFile,
    Lazy,
    MayRead,
    ModelFile,
    Output,
    Outputs,
    Spec,
    Uses,
    any_file,
    bare,
    name_of,
    unencodable,
)
from engine.values import Files, Folder, Image, Media

__all__ = [
    "Context",
    "Deprecated",
    "Figure",
    "FileContents",
    "FilePrefix",
    "Found",
    "InputFile",
    "Lazy",
    "MayRead",
    "ModelFile",
    "Node",
    "Outputs",
    "Preview",
    "any_file",
]

Preview = Callable[[], Image | None]
"""Draws the current state of the work: the first picture of what it returns, in host memory, is shown; None is not."""
NOTHING: Mapping[str, Any] = {}
DISTRIBUTION = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")

logger = logging.getLogger("kinograph")


def _ignore_progress(done: int, total: int, unit: str, preview: Image | None) -> None: ...


def _ignore_text(text: str) -> None: ...


def _ignore_report(report: Report) -> None: ...


def _never() -> bool:
    return False


class Recall(Protocol):
    """Finds a part of a node's work; `anywhere` as it was kept."""

    def __call__(self, name: str, *, anywhere: bool = False) -> Outputs | None: ...


class Keep(Protocol):
    """Keeps a part of a node's work; `anywhere`: it depends neither on the device nor on torch, diffusers and
    transformers, though perhaps on libraries that the kind names."""

    def __call__(
        self,
        name: str,
        outputs: Outputs,
        seconds: float,
        *,
        anywhere: bool = False,
        instead_of: Collection[str] = (),
    ) -> None: ...


def _recall_nothing(name: str, *, anywhere: bool = False) -> Outputs | None: ...


def _keep_nothing(
    name: str, outputs: Outputs, seconds: float, *, anywhere: bool = False, instead_of: Collection[str] = ()
) -> None: ...


@dataclass(slots=True)
class Context:
    """What a running node may use. `Context()` is for tests: the CPU, models of its own, no listeners."""

    device: str = "cpu"
    """A torch device."""
    models: Models = field(default_factory=Models)
    on_progress: Callable[[int, int, str, Image | None], None] = _ignore_progress
    on_text: Callable[[str], None] = _ignore_text
    on_report: Callable[[Report], None] = _ignore_report
    cancelled: Callable[[], bool] = _never
    cores: int = 1
    """How many threads, or processes, may compute at a time."""
    recall: Recall = _recall_nothing
    """Returns what this kind of node kept under a name, in this run or an earlier one; None if it is no longer held.
    The name must state everything that determines the outputs, except for a device that the node uses."""
    keep: Keep = _keep_nothing
    """Keeps a part of the work under a name, with the seconds it took, so that a run that was interrupted, or has other
    settings, need not start over. The outputs must be storable. Parts that were kept `instead_of` others, by name, are
    removed once this one is stored, and not before: so a training that keeps its state again and again has one on the
    disk, or two if it was killed just then."""
    may_read: MayRead = any_file
    """To be called for each file that is named in a list or table that the node reads; files that its inputs name may
    be read."""
    wants_preview: Callable[[], bool] = _never
    """Whether someone is watching, and hasn't been shown a preview just now."""
    lend_device: Callable[[], AbstractContextManager[object]] = nullcontext
    """To be entered by a node that uses the device while it waits, or works elsewhere, for long: meanwhile other nodes
    may use it. Models have to be asked for again afterwards, as they may have been moved."""

    def progress(self, done: int, total: int, *, unit: str = "step", preview: Preview | None = None) -> None:
        """Report that `done` of `total` units are done; raises `Cancelled` if the run was cancelled.

        `preview` is called only if someone is watching, and at once, so that it may use the node's models.
        """
        if self.cancelled():
            raise Cancelled
        shown = _drawn(preview) if preview and self.wants_preview() else None
        self.on_progress(done, total, unit, shown)

    def text(self, text: str) -> None:
        """Stream a piece of text that is being written; raises `Cancelled` if the run was cancelled."""
        if self.cancelled():
            raise Cancelled
        self.on_text(text)

    def report(self, figures: Given) -> None:
        """Say how the work went: `{"tokens": 96, "reading": Figure(0.31, "s")}`, the most telling first.

        People see it at the node, programs in the run's events and record. What the node reports later replaces it. It
        is never part of the outputs, so it isn't there when they come from the cache. What is too long is cut
        (`engine.figures.bounded`). Unlike the others this doesn't raise `Cancelled`: work that is done is kept.
        """
        self.on_report(bounded(figures))


def _drawn(preview: Preview) -> Image | None:
    """A preview; None if it can't be drawn, since the work doesn't depend on it."""
    try:
        return preview()
    except Exception:
        logger.exception("no preview")
        return None


class Node(BaseModel):
    """Base of all nodes; a subclass is a kind of node, and its `version` changes whenever its results do."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, protected_namespaces=()
    )
    spec: ClassVar[Spec]

    def __init_subclass__(
        cls,
        *,
        version: int,
        category: str = "",
        uses: Uses = "cpu",
        saves: str = "",
        temporary: bool = False,
        retries: int = 0,
        volatile: bool = False,
        libraries: Collection[str] = (),
        deprecated: str = "",
        renamed: Mapping[str, str] = NOTHING,
        removed: Mapping[str, str] = NOTHING,
        replaced: Mapping[str, str | tuple[str, ...]] = NOTHING,
    ) -> None:
        super().__init_subclass__()
        if temporary and not saves:
            raise TypeError(f"{cls.__name__} saves nothing that could be temporary")
        about = inspect.cleandoc(cls.__doc__ or "")
        by = {old: (new,) if isinstance(new, str) else tuple(new) for old, new in replaced.items()}
        spec = Spec(cls.__name__, version, category, uses, saves, temporary, retries, about, {}, (), named=False)
        changes = Changes(dict(renamed), dict(removed), by)
        own = _distributions(cls.__name__, libraries)
        cls.spec = replace(spec, volatile=volatile, deprecated=deprecated, changes=changes, libraries=own)

    @classmethod
    def __pydantic_init_subclass__(cls, **keywords: Any) -> None:
        """Complete the spec, now that the fields are known; the class keywords are in it already."""
        inputs = {name: Input(name, bare(info.annotation), info) for name, info in cls.model_fields.items()}
        outputs, named = _outputs(cls)
        if cls.spec.saves and any(output.type not in (Media, Files, Folder) for output in outputs[:1]):
            raise TypeError(
                f"{cls.__name__} saves, so it must return Media, Files or a Folder, not {name_of(outputs[0].type)}"
            )
        own = {name for name in ("replacing", "remarks_on", "check_inputs") if _is_own(cls, name)}
        cls.spec.changes.check(cls.__name__, inputs, converts="replacing" in own)
        cls.spec = replace(
            cls.spec,
            inputs=inputs,
            outputs=outputs,
            named=named,
            has_remarks="remarks_on" in own,
            has_checks="check_inputs" in own,
        )

    @field_validator("*")
    @classmethod
    def _texts_can_be_encoded(cls, given: Any, info: ValidationInfo) -> Any:
        wrong = unencodable(given)
        if wrong and not cls.spec.inputs[str(info.field_name)].file:
            raise PydanticCustomError("text", "{wrong}", {"wrong": wrong})
        return given

    @classmethod
    def wanted(cls, given: Mapping[str, Any]) -> Collection[str]:
        """Which of the lazy inputs `run` will read, given all other inputs, which are plain values."""
        return cls.spec.lazy

    @classmethod
    def replacing(cls, old: Mapping[str, Any]) -> Mapping[str, Any]:
        """Convert the constants that an old workflow gives to replaced inputs into present inputs, as JSON values.

        `old` holds at least one of them. Any exception is reported as a problem of the workflow.
        """
        raise NotImplementedError

    @classmethod
    def remarks_on(cls, given: Mapping[str, Any]) -> Iterable[Problem]:
        """What people should know before a run: warnings, each with the input that it concerns.

        `given` are the constants as the workflow has them, perhaps invalid ones, and the defaults; linked inputs are
        left out, as in `check_inputs`.
        """
        return ()

    @classmethod
    def check_inputs(cls, given: Mapping[str, Any]) -> None:
        """Check before a run that inputs which are valid by themselves go together; `given` are constants and defaults.

        Raises:
            InputError: they don't.
            MissingError: all that is wrong is that a model or a file isn't named.
        """

    @abstractmethod
    def run(self, ctx: Context) -> Any:
        """Compute the outputs. Equal inputs must give equal outputs, unless the kind is `volatile`, and no input may be
        changed in place."""


def _distributions(kind: str, names: Collection[str]) -> tuple[str, ...]:
    """The names of distributions in order; raises TypeError for what can't be one, such as a requirement."""
    if isinstance(names, str) or not all(isinstance(name, str) and DISTRIBUTION.fullmatch(name) for name in names):
        raise TypeError(f"{kind}: libraries are a tuple of names that pip knows, such as ('av',), not {names!r}")
    return tuple(sorted(set(names)))


def _is_own(cls: type[Node], method: str) -> bool:
    """Whether a class method isn't the one that `Node` has."""
    return bool(getattr(cls, method).__func__ is not getattr(Node, method).__func__)


def _outputs(cls: type[Node]) -> tuple[tuple[Output, ...], bool]:
    returned = get_type_hints(cls.run)["return"]
    if isinstance(returned, type) and issubclass(returned, tuple) and hasattr(returned, "_fields"):
        return tuple(Output(name, hint) for name, hint in get_type_hints(returned).items()), True
    return (Output("out", returned),), False
