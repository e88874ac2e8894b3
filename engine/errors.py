"""Everything that Kinograph raises on purpose, and the exit code each leads to.

KinographError           1    any other error
├── ServerError          1    a server can't be reached, or doesn't answer as it should
├── StorageError         1    a file that Kinograph keeps can't be read or written
│   └── DiskFullError    1    there is no room for it
├── UsageError           2    the command was called wrongly
├── WorkflowError        3    the workflow is invalid; `problems` lists everything that is wrong with it
├── MissingError         4    a model or a file is missing
├── NodeError            5    a node failed
│   └── InputError       5    a node found an invalid input while running
└── Cancelled          130    the run was cancelled
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import ClassVar, Self


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: what was found and expected, where, and what might help."""

    message: str
    node: str | None = None
    input: str | None = None
    hint: str | None = None
    cause: str | None = None
    """What sort of mistake it is, in the words of ComfyUI's protocol, if it has one: "value_not_in_list"."""

    @classmethod
    def within(
        cls,
        subgraph: str | None,
        node: str,
        input: str,
        message: str,
        hint: str | None = None,
        cause: str | None = None,
    ) -> Self:
        """A problem with an input; nodes of subgraph definitions have no id in the document itself."""
        if subgraph is None:
            return cls(message, node, input, hint, cause)
        return cls(f"in the subgraph '{subgraph}', node {node}, input {input}: {message}", hint=hint, cause=cause)

    def __str__(self) -> str:
        where = [f"node {self.node}"] if self.node is not None else []
        where += [f"input {self.input}"] if self.input is not None else []
        text = f"{', '.join(where)}: {self.message}" if where else self.message
        return f"{text} ({self.hint})" if self.hint else text


class KinographError(Exception):
    """An error with a message fit for users, the node and input it concerns, and a hint."""

    exit_code: ClassVar[int] = 1
    problems: tuple[Problem, ...]

    def __init__(
        self, message: str, *, node: str | None = None, input: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.problems = (Problem(message, node, input, hint),)

    @classmethod
    def of(cls, problems: Iterable[Problem]) -> Self:
        """One error for several problems; there must be at least one."""
        problems = tuple(problems)
        error = cls(problems[0].message)
        error.problems = problems
        return error

    @property
    def message(self) -> str:
        return self.problems[0].message

    @property
    def node(self) -> str | None:
        return self.problems[0].node

    @property
    def input(self) -> str | None:
        return self.problems[0].input

    @property
    def hint(self) -> str | None:
        return self.problems[0].hint

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


class ServerError(KinographError):
    """A server can't be reached, or doesn't answer as it should."""


class StorageError(KinographError):
    """A file that Kinograph keeps can't be read or written."""


class DiskFullError(StorageError):
    """There is no room for a file."""


class UsageError(KinographError):
    """The command was called wrongly."""

    exit_code = 2


class WorkflowError(KinographError):
    """The workflow is invalid; `problems` lists everything that is wrong with it."""

    exit_code = 3


class MissingError(KinographError):
    """A model or a file is missing."""

    exit_code = 4


class NodeError(KinographError):
    """A node failed."""

    exit_code = 5


class InputError(NodeError):
    """A node found an invalid input while running."""


class Cancelled(KinographError):
    """The run was cancelled."""

    exit_code = 130

    def __init__(
        self, message: str = "cancelled", *, node: str | None = None, input: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, node=node, input=input, hint=hint)


@contextmanager
def path_errors(name: str) -> Iterator[None]:
    """Turn errors that arise because no file can have a name, or from reading the file, into MissingError."""
    try:
        yield
    except (RuntimeError, ValueError) as error:  # an unknown `~user`, or a null byte
        raise MissingError(f"'{name}' can't be the name of a file: {error}") from None
    except OSError as error:
        raise MissingError(f"'{name}' can't be read: {error.strerror}") from None


def plainly(message: str) -> str:
    """What pydantic says of a value, without what it is called there, and of lists as workflows have them."""
    for start in ("Input ", "Value error, ", "String ", "Tuple ", "List "):
        message = message.removeprefix(start)
    return message.replace("should be a valid tuple", "should be a list")


def suggestion(name: object, names: Collection[str]) -> str | None:
    """A hint for a name, or anything else, that isn't among `names`: the closest of them, or all if they are few.

    It takes a microsecond for each letter of each name; those who may report many problems ask for few hints.
    """
    if len(names) > 1000 or (isinstance(name, str) and len(name) > 200):
        return None
    by_lower = {other.lower(): other for other in names}
    if isinstance(name, str) and (near := get_close_matches(name.lower(), by_lower, n=1)):
        return f"did you mean '{by_lower[near[0]]}'?"
    return f"available: {', '.join(sorted(names))}" if 0 < len(names) <= 8 else None
