"""A session: the models and results that the runs of a process share."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, overload

from engine.document.given import axes_of, described, path_of, whole_of
from engine.document.prepared import Prepared
from engine.errors import Cancelled, UsageError
from engine.values import brief
from kinograph.display import show_values
from kinograph.documents import AnyWorkflow, NodeKinds, Path_, as_data, each_of, folders_of, load, with_inputs
from kinograph.results import File, Results
from kinograph.wanted import Until, wanted

if TYPE_CHECKING:
    from engine.document.reading import Document
    from kinograph.running import Noted, OnEvent, Run

OUT = "output"
"""The folder that files are saved to if none is named."""
Size = int | str | None
"""Bytes, or a text such as "20GB"."""


@dataclass(frozen=True, eq=False)
class Combination:
    """One combination of a sweep."""

    inputs: Mapping[str, Any]
    """Its values."""
    results: Results

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={brief(value)}" for name, value in self.inputs.items())
        return f"<{given}: {self.results.summary}>"


@dataclass(frozen=True, eq=False)
class Sweep(Sequence[Combination]):
    """The results of all combinations, the last input varying fastest; a notebook shows the sheet."""

    combinations: tuple[Combination, ...]
    sheet: Path
    """A labelled picture of all of them."""
    table: Path
    """CSV: the values, how each ended, and its files."""

    @overload
    def __getitem__(self, index: int) -> Combination: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Combination]: ...

    def __getitem__(self, index: int | slice) -> Combination | Sequence[Combination]:
        return self.combinations[index]

    def __len__(self) -> int:
        return len(self.combinations)

    def __repr__(self) -> str:
        ends = ", ".join(f"{count} {status}" for status, count in Counter(one.results.status for one in self).items())
        return f"{len(self)} combinations, {ends}\n  {self.sheet}\n  {self.table}"

    def _repr_png_(self) -> bytes | None:
        return File(self.sheet)._repr_png_()


class Session:
    """Runs workflows with one set of models in memory and one cache; close it, or use `with`.

    Runs take turns, whichever threads start them.

    Args:
        device: where models compute, "cpu", "cuda", "cuda:1", "mps"; by default the best available.
        cache_dir: the folder where results are kept between processes; by default the command's.
        cache_device: the budget for models and results on a GPU.
        cache_host: the budget for results in memory.
        cache_disk: the budget for results on disk.
        keep: whether results outlive the session. If not, they are kept only in memory.
        nodes: kinds of node that all runs may use, besides those that come with Kinograph.
        models: folders of models, those of ComfyUI or AUTOMATIC1111 too, or `extra_model_paths.yaml` files; by default
            those that the environment's `KINOGRAPH_MODELS` lists.

    Raises:
        UsageError: there is no such device, or a folder can't be used.
    """

    def __init__(
        self,
        device: str | None = None,
        *,
        cache_dir: Path_ | None = None,
        cache_device: Size = None,
        cache_host: Size = None,
        cache_disk: Size = None,
        keep: bool = True,
        nodes: NodeKinds = (),
        models: Path_ | Iterable[Path_] | None = None,
    ) -> None:
        from engine.run import devices
        from engine.run.resources import CacheLimits, open_resources

        if not keep and (cache_dir or cache_disk):
            raise UsageError("keep=False excludes cache_dir and cache_disk")
        sizes = {"cache_device": cache_device, "cache_host": cache_host, "cache_disk": cache_disk}
        on_device, on_host, on_disk = (_bytes(name, size) for name, size in sizes.items())
        hint = "give a folder, or none for the command's"
        folder = path_of(cache_dir, "cache_dir", hint).absolute() if cache_dir not in (None, "") else None
        limits = CacheLimits(folder=folder, device=on_device, host=on_host, disk=on_disk, keep=keep)
        self.device = devices.best() if device in (None, "") else devices.checked(device)
        self._nodes = each_of(nodes)
        self._folders = None if models is None else folders_of(models)
        self._open = ExitStack()
        try:
            self._shared = self._open.enter_context(open_resources(limits, self.device))
        except UsageError as error:
            raise UsageError(error.message, hint="give another cache_dir, or keep=False") from error
        self._turn = threading.RLock()
        self._node_threads: set[int] = set()
        self._closed = False
        show_values()

    def __repr__(self) -> str:
        return f"<Session on {self.device}{', closed' if self._closed else ''}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Release models, and results once they are on disk; not during a run. Nothing can run afterwards."""
        self._closed = True
        self._open.close()
        self._shared.models.clear()
        self._shared.cache.clear()

    def run(
        self,
        workflow: AnyWorkflow,
        inputs: Mapping[str, Any] | None = None,
        *,
        out: Path_ = OUT,
        until: Until | Iterable[Until] = (),
        nodes: NodeKinds = (),
        cache: bool = True,
        check: bool = True,
        on_event: OnEvent | None = None,
        progress: bool = True,
    ) -> Results:
        """Run a workflow: save its files and return its results.

        Earlier results, of any run, are taken from the cache. Ctrl-C ends the run before its next step, and so does an
        error raised by `on_event`; everything finished by then is kept.

        Args:
            workflow: a path, the name of one that comes with Kinograph, JSON data, or a `Graph`.
            inputs: values by `node.input`, or by a name that the workflow exposes.
            out: the folder that files are saved to.
            until: run only these nodes and what they need, and return their values.
            nodes: kinds of node to use besides those that come with Kinograph: classes, or Python files.
            cache: whether results may be taken from the cache, and kept in it.
            check: whether to raise the errors of failed nodes. If not, see `Results.failures`.
            on_event: called with each event of the run, in this thread.
            progress: whether to show progress.

        Raises:
            UsageError: there is no such input, node or folder.
            WorkflowError: the workflow is invalid; `problems` lists everything that is wrong.
            MissingError: a model or file is missing.
            NodeError: a node failed; everything that doesn't depend on it has run.
            KeyboardInterrupt: the run was interrupted, and has ended.
        """
        folder, told = _folder(out), _listeners(on_event)
        document, aim = wanted(self._document(workflow, inputs, nodes), until)
        with self._run(document.prepared, progress) as (run, noted):
            graph = run.ready(document, aim)
            given = run.carry_out(graph, folder, [noted[0].note, *told], cache=cache)
        results = noted[0].results(aim.found(given, graph))
        if check:
            results.check()
        return results

    def sweep(
        self,
        workflow: AnyWorkflow,
        axes: Mapping[str, Sequence[Any]],
        inputs: Mapping[str, Any] | None = None,
        *,
        out: Path_ = OUT,
        nodes: NodeKinds = (),
        cache: bool = True,
        on_event: OnEvent | None = None,
        progress: bool = True,
    ) -> Sweep:
        """Run a workflow with every combination of several inputs' values.

        What combinations share is computed once. A failed one doesn't affect the others, and raises nothing: see the
        `status` and `failures` of its results. A labelled sheet and a table are saved with the files.

        Args:
            workflow: as for `run`.
            axes: values for each input, by `node.input` or a name that the workflow exposes.
            inputs: values shared by all combinations.
            out: the folder that files are saved to.
            nodes: as for `run`.
            cache: as for `run`.
            on_event: as for `run`; the nodes of the i-th combination are called `i:…`.
            progress: as for `run`.

        Raises:
            UsageError: there is no such input, an axis has no list of values, or there are too many combinations.
            WorkflowError, MissingError, KeyboardInterrupt: as for `run`.
        """
        from engine.run import sweep as grid
        from kinograph.running import by_part

        folder, told, values = _folder(out), _listeners(on_event), axes_of(axes)
        lines = [grid.Axis.of(name, [as_data(value, name) for value in some]) for name, some in values.items()]
        document = self._document(workflow, inputs, nodes)
        made = grid.combinations(document.imported(), lines, from_cwd=True)
        _, aim = wanted(document)  # that of every combination: they differ in constants, which no aim depends on
        names = {f"{part}:": grid.label_of(lines, texts) for part, texts in enumerate(made)}
        with self._run(document.prepared, progress, names) as (run, noted):
            graph = grid.joined([run.ready(one, aim) for one in made.values()])
            ends = grid.outcomes(graph, made)
            listeners = [lambda event: grid.record(ends, event), by_part(noted), *told]
            given = run.carry_out(graph, folder, listeners, cache=cache)
        sheet, table = grid.save(lines, ends, folder)
        found = [aim.found(given, graph, prefix) for prefix in names]
        results = [one.results(some, end.status) for one, some, end in zip(noted, found, ends, strict=True)]
        each = [dict(zip(values, some, strict=True)) for some in product(*values.values())]
        return Sweep(tuple(map(Combination, each, results)), sheet, table)

    def _document(self, workflow: AnyWorkflow, inputs: Mapping[str, Any] | None, nodes: NodeKinds) -> Document:
        if self._closed:
            raise UsageError("the session is closed", hint="make another")
        if threading.get_ident() in self._node_threads:
            raise UsageError(
                "a node can't run a workflow in the session that runs it", hint="open another session in the node"
            )
        document = load(workflow, nodes=[*self._nodes, *each_of(nodes)])
        return with_inputs(replace(document, folders=self._folders or folders_of(None)), inputs)

    @contextmanager
    def _run(
        self, prepared: Prepared, progress: bool, parts: Mapping[str, str] | None = None
    ) -> Iterator[tuple[Run, list[Noted]]]:
        """A run, when its turn has come, and the records of its events; `parts` are the labels of a sweep's parts, by
        the prefix of their nodes' ids."""
        from engine.cli.console import Labels
        from kinograph.interrupts import Interrupts
        from kinograph.progress import shown
        from kinograph.running import Noted, Run

        noted = [Noted()] if parts is None else [Noted(is_part=True) for _ in parts]
        with self._turn, Interrupts() as stop, shown(Labels.of(prepared, parts), progress) as reporter:
            try:
                yield Run(self._shared, self._node_threads, stop, reporter), noted
            except Cancelled:
                if not stop.cancelled:
                    raise
        if stop.cancelled:
            raise KeyboardInterrupt


def _folder(out: Path_) -> Path:
    hint = "name a folder to save files to"
    folder = path_of(out, "out", hint).absolute()
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{out} is not a folder", hint=hint)
    return folder


def _bytes(name: str, size: Size) -> int | None:
    from engine.store.sizes import parsed_size

    if size is None or isinstance(size, str):
        return None if size is None else parsed_size(name, size)
    return whole_of(size, name, 'give bytes, or a text such as "20GB"')


def _listeners(on_event: OnEvent | None) -> list[OnEvent]:
    if on_event is None:
        return []
    if not callable(on_event):
        hint = "give a function that takes an event, such as print"
        raise UsageError(f"on_event: {described(on_event)} can't be called", hint=hint)
    return [on_event]
