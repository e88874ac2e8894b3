"""Running, checking and sweeping workflows without an explicit session: one is made for each device requested."""

from __future__ import annotations

import atexit
import threading
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from engine.errors import MissingError, Problem, WorkflowError
from engine.run import devices
from kinograph.documents import AnyWorkflow, NodeKinds, Path_, folders_of, load, with_inputs
from kinograph.results import Results
from kinograph.session import OUT, Session, Sweep
from kinograph.wanted import Until, wanted

if TYPE_CHECKING:
    from kinograph.running import OnEvent


class RunOptions(TypedDict, total=False):
    """The options of `run`, besides the workflow and its inputs."""

    out: Path_
    until: Until | Iterable[Until]
    device: str | None
    nodes: NodeKinds
    cache: bool
    check: bool
    on_event: OnEvent | None
    progress: bool


class WorkflowWarning(UserWarning):
    """Something in a workflow that doesn't keep it from running, such as a kind of node that is deprecated."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


_sessions: dict[str, Session] = {}
"""The sessions that `run` and `sweep` have made, by device."""
_making = threading.Lock()


def run(
    workflow: AnyWorkflow,
    inputs: Mapping[str, Any] | None = None,
    *,
    out: Path_ = OUT,
    until: Until | Iterable[Until] = (),
    device: str | None = None,
    nodes: NodeKinds = (),
    cache: bool = True,
    check: bool = True,
    on_event: OnEvent | None = None,
    progress: bool = True,
) -> Results:
    """Run a workflow: save its files and return its results.

    Earlier results, of this process or another, are taken from the cache, and models stay in memory between runs.
    Ctrl-C ends the run before its next step, and so does an error raised by `on_event`; everything finished by then is
    kept.

    Args:
        workflow: a path, the name of one that comes with Kinograph, JSON data, or a `Graph`.
        inputs: values by `node.input`, or by a name that the workflow exposes.
        out: the folder that files are saved to.
        until: run only these nodes and what they need, and return their values.
        device: where models compute, "cpu", "cuda", "cuda:1", "mps"; by default the best available.
        nodes: kinds of node to use besides those that come with Kinograph: classes, or Python files.
        cache: whether results may be taken from the cache, and kept in it.
        check: whether to raise the errors of failed nodes. If not, see `Results.failures`.
        on_event: called with each event of the run, in this thread.
        progress: whether to show progress.

    Raises:
        UsageError: there is no such input, node, device or folder.
        WorkflowError: the workflow is invalid; `problems` lists everything that is wrong.
        MissingError: a model or file is missing.
        NodeError: a node failed; everything that doesn't depend on it has run.
        KeyboardInterrupt: the run was interrupted, and has ended.
    """
    return _session(device).run(
        workflow,
        inputs,
        out=out,
        until=until,
        nodes=nodes,
        cache=cache,
        check=check,
        on_event=on_event,
        progress=progress,
    )


def sweep(
    workflow: AnyWorkflow,
    axes: Mapping[str, Sequence[Any]],
    inputs: Mapping[str, Any] | None = None,
    *,
    out: Path_ = OUT,
    device: str | None = None,
    nodes: NodeKinds = (),
    cache: bool = True,
    on_event: OnEvent | None = None,
    progress: bool = True,
) -> Sweep:
    """Run a workflow with every combination of several inputs' values; see `Session.sweep`.

    Args:
        workflow: a path, the name of one that comes with Kinograph, JSON data, or a `Graph`.
        axes: values for each input, by `node.input` or a name that the workflow exposes.
        inputs: values shared by all combinations.
        out: the folder that files are saved to.
        device: where models compute; by default the best available.
        nodes: kinds of node to use besides those that come with Kinograph: classes, or Python files.
        cache: whether results may be taken from the cache, and kept in it.
        on_event: called with each event; the nodes of the i-th combination are called `i:…`.
        progress: whether to show progress.

    Raises:
        UsageError: there is no such input, an axis has no list of values, or there are too many combinations.
        WorkflowError, MissingError, KeyboardInterrupt: as for `run`.
    """
    session = _session(device)
    return session.sweep(
        workflow, axes, inputs, out=out, nodes=nodes, cache=cache, on_event=on_event, progress=progress
    )


def validate(workflow: AnyWorkflow, inputs: Mapping[str, Any] | None = None, *, nodes: NodeKinds = ()) -> list[Problem]:
    """Everything that is wrong with a workflow, or missing on this machine; empty if it can be run.

    A model that a run would fetch doesn't count as missing. What is deprecated or ignored in the workflow is reported
    by a `WorkflowWarning` each.

    Args:
        workflow: a path, the name of one that comes with Kinograph, JSON data, or a `Graph`.
        inputs: values by `node.input`, or by a name that the workflow exposes.
        nodes: kinds of node to use besides those that come with Kinograph.

    Raises:
        UsageError: the call is wrong, for example because the workflow has no such input.
    """
    return validated(workflow, inputs, nodes, stacklevel=3)


def validated(
    workflow: AnyWorkflow, inputs: Mapping[str, Any] | None, nodes: NodeKinds, *, stacklevel: int
) -> list[Problem]:
    """`validate`, warning at a line of a caller: 2 is the caller of this function, 3 the one of that."""
    from engine.graph.check import examine

    try:
        document, aim = wanted(with_inputs(load(workflow, nodes=nodes), inputs))
    except (WorkflowError, MissingError) as error:
        return [*error.problems]
    for problem in document.prepared.warnings:
        warnings.warn(WorkflowWarning(problem), stacklevel=stacklevel)
    folders = folders_of(None)
    found = examine(document.prepared, base=document.base, targets=aim.targets, folders=folders)
    return [*found.problems, *found.missing]


def close() -> None:
    """Release the models and results that `run` and `sweep` hold in memory; the next call starts afresh."""
    with _making:
        while _sessions:
            _sessions.popitem()[1].close()


def _session(device: str | None) -> Session:
    name = devices.best() if device in (None, "") else devices.checked(device)
    with _making:
        if name not in _sessions:
            atexit.unregister(close)
            atexit.register(close)
            _sessions[name] = Session(name)
        return _sessions[name]
