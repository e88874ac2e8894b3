"""The command `kinograph`: run, check and describe workflows, nodes and models.

Results go to standard output, all else to standard error. The exit codes are those of `engine.errors`. What takes long
to import is imported by the command that needs it, so that `--help` is there at once.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.commands import Interrupts, answering, human_size, parsed_size, quiet_libraries
from engine.errors import Cancelled, MissingError, Problem, UsageError, suggestion

if TYPE_CHECKING:
    from engine.cache import Cache
    from engine.console import Labels, Reporter
    from engine.disk import Disk
    from engine.documents import Document
    from engine.events import Event
    from engine.execute import Execution
    from engine.graph import Graph
    from engine.models import Models
    from engine.registry import Registry
    from engine.workflow import Workflow

COSTS = "costs.json"
"""Where, in Kinograph's folder, it is kept what nodes take."""

app = typer.Typer(
    help="Run node-graph workflows for generative video: language to pictures to video, from one JSON file.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

File = Annotated[
    str,
    typer.Argument(
        metavar="FILE",
        help="A workflow file, a PNG or MP4 that carries one, the name of a shipped one, or - for standard input.",
        show_default=False,
    ),
]
Set = Annotated[
    list[str],
    typer.Option(
        "--set", metavar="INPUT=VALUE", help="Give an input a value: node.input, or a name that the workflow exposes."
    ),
]
Out = Annotated[Path, typer.Option(metavar="DIR", help="The folder that files are saved to.")]
Device = Annotated[
    str, typer.Option(help="Where models compute: cpu, cuda, cuda:1, mps; by default the best there is.")
]
Nodes = Annotated[
    list[Path], typer.Option("--nodes", metavar="FILE.py", help="Add the nodes that a Python file defines.")
]
CacheDir = Annotated[
    Path | None,
    typer.Option("--cache-dir", metavar="DIR", help="Where results are kept between runs.", show_default=False),
]
Until = Annotated[
    str, typer.Option("--until", metavar="NODE", help="Run this node and what it needs, and nothing else.")
]
Only = Annotated[
    str, typer.Option("--only", metavar="NODE", help="Run this node alone, on what earlier runs have kept for it.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON on standard output, for programs.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the Python traceback of an error.")]


def main() -> None:
    """The command line; ends the process."""
    app()


@app.callback(invoke_without_command=True)
def about(version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False) -> None:
    if version:
        from importlib.metadata import version as installed

        print(f"kinograph {installed('kinograph')}")
        raise typer.Exit


@app.command()
def run(
    file: File,
    set: Set = [],  # noqa: B006
    out: Out = Path("output"),
    device: Device = "",
    nodes: Nodes = [],  # noqa: B006
    cache_dir: CacheDir = None,
    cache_disk: Annotated[
        str,
        typer.Option(metavar="SIZE", help="What results may take on disk, such as 20GB; by default a quarter of it."),
    ] = "",
    cache_device: Annotated[
        str,
        typer.Option(metavar="SIZE", help="What models and results may take on a GPU; by default most of it."),
    ] = "",
    cache_host: Annotated[
        str,
        typer.Option(metavar="SIZE", help="What they may take in memory; by default a quarter of the machine's."),
    ] = "",
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Compute everything, and keep nothing.")] = False,
    until: Until = "",
    only: Only = "",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Run a workflow, save its files, and write their paths.

    What was computed before, by any run, is taken from the cache. Ctrl-C ends the run before its next step; all that is
    finished by then is kept for the next one. With --until or --only, what the node gives is written if it saves no
    files.
    """
    with answering(as_json, debug), Interrupts() as interrupts:
        from engine import devices
        from engine.console import reporter
        from engine.costs import Costs
        from engine.documents import up_to
        from engine.events import NodeSaved
        from engine.execute import Execution
        from engine.models import Models, home

        if not debug:
            quiet_libraries()
        _check_folder(out)
        if until and only:
            raise UsageError("--until and --only exclude each other")
        document, registry = _document(file, set, nodes)
        target = until or only
        if target:
            document = up_to(document, target)
        device = devices.checked(device) if device else devices.best()
        answers: list[str] = []
        try:
            with reporter(_labels(document.workflow, registry), as_json=as_json, debug=debug) as shown:
                graph = _ready(document, registry, shown, interrupts, [target] if target else None)
                models = Models(device_budget=parsed_size("--cache-device", cache_device) if cache_device else None)
                with _cache(cache_dir, no_cache, cache_disk, cache_host, models, device) as cache:
                    costs = Costs(home() / COSTS)
                    execution = Execution(
                        graph, cache=cache, out=out, device=device, models=models, costs=costs, alone=bool(only)
                    )
                    for event in _events(execution, shown, interrupts):
                        if isinstance(event, NodeSaved):
                            answers += map(str, event.files)
                answers += [str(value) for outputs in execution.results.values() for value in outputs]
        finally:
            if not as_json:
                print(*answers, sep="\n", end="\n" if answers else "")
        raise typer.Exit(execution.exit_code)


@app.command()
def sweep(
    file: File,
    axis: Annotated[
        list[str],
        typer.Option(
            "--axis", metavar="INPUT=A,B,C", help="An input, and the values that it takes; give one or several axes."
        ),
    ],
    set: Set = [],  # noqa: B006
    out: Out = Path("output"),
    device: Device = "",
    nodes: Nodes = [],  # noqa: B006
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Run a workflow with every combination of several inputs' values.

    What combinations share is computed once; one that fails costs no other. A labelled contact sheet and a table (CSV)
    are saved with their files, and their paths written.
    """
    with answering(as_json, debug), Interrupts() as interrupts:
        from engine import devices
        from engine import sweep as grid
        from engine.console import Labels, reporter
        from engine.costs import Costs
        from engine.execute import Execution
        from engine.models import Models, home

        if not debug:
            quiet_libraries()
        _check_folder(out)
        axes = [grid.Axis.parse(text) for text in axis]
        document, registry = _document(file, set, nodes)
        made = grid.combinations(document, registry, axes)
        device = devices.checked(device) if device else devices.best()
        names = {f"{part}:": grid.in_short(axes, values) for part, values in enumerate(made)}
        labels = Labels(
            {
                f"{part}{node}": f"{label}, {told}"
                for part, told in names.items()
                for node, label in _labels(document.workflow, registry).items()
            }
        )
        with reporter(labels, as_json=as_json, debug=debug) as shown:
            graph = grid.joined([_ready(one, registry, shown, interrupts, None) for one in made.values()])
            ends = grid.outcomes(graph, made)
            models = Models()
            with _cache(cache_dir, False, "", "", models, device) as cache:
                costs = Costs(home() / COSTS)
                execution = Execution(graph, cache=cache, out=out, device=device, models=models, costs=costs)
                for event in _events(execution, shown, interrupts):
                    grid.note(ends, event)
        sheet, table = grid.save(axes, ends, out)
        print(
            json.dumps({"event": "sweep", "sheet": str(sheet), "table": str(table)}) if as_json else f"{sheet}\n{table}"
        )
        raise typer.Exit(execution.exit_code)


@app.command()
def validate(
    file: File,
    set: Set = [],  # noqa: B006
    nodes: Nodes = [],  # noqa: B006
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Check a workflow without running it; tells all that is wrong with it."""
    with answering(as_json, debug):
        from engine.graph import check

        document, registry = _document(file, set, nodes)
        graph = check(document.workflow, registry, base=document.base)
        if as_json:
            print(json.dumps({"valid": True, "nodes": len(graph.order), "targets": graph.targets}))
        else:
            print(f"{document.name} is valid: {len(graph.order)} nodes, of which {len(graph.targets)} save files")


@app.command()
def nodes(
    name: Annotated[str, typer.Argument(help="One kind of node, in full.")] = "",
    nodes: Nodes = [],  # noqa: B006
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """List the kinds of node, or describe one: its help, inputs, outputs and JSON schema."""
    with answering(as_json, debug):
        from engine.describe import as_data, in_full, in_short

        registry = _registry(nodes)
        if name and name not in registry:
            raise UsageError(f"no kind of node is called '{name}'", hint=suggestion(name, registry))
        kinds = [registry[name]] if name else list(registry.values())
        if as_json:
            data = {kind.spec.kind: as_data(kind) for kind in kinds}
            print(json.dumps(data[name] if name else data, indent=2))
        else:
            print(in_full(kinds[0]) if name else in_short(kinds))


@app.command()
def models(
    file: Annotated[
        str, typer.Argument(metavar="[FILE]", help="A workflow, to list what it needs, or a model's source.")
    ] = "",
    fetch: Annotated[bool, typer.Option("--fetch", help="Fetch what is not here.")] = False,
    set: Set = [],  # noqa: B006
    nodes: Nodes = [],  # noqa: B006
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """List the models that are here, or those that a workflow needs, and fetch them."""
    with answering(as_json, debug), Interrupts() as interrupts:
        from engine.console import reporter
        from engine.documents import models_of
        from engine.models import can_fetch, find
        from engine.models.listing import here

        if not file:
            if fetch:
                raise UsageError("--fetch needs a workflow or a model", hint="kinograph models FILE --fetch")
            found: Mapping[str, Path | None] = here()
        else:
            base, needed = None, {file: list[tuple[str, str]]()}
            if not can_fetch(file):
                document, registry = _document(file, set, nodes)
                base, needed = document.base, models_of(document.workflow, registry)
            if fetch:
                with reporter({}, as_json=as_json, debug=debug) as shown:
                    _fetch(needed, base, shown, interrupts)
            found = {source: find(source, base=base) for source in needed}
        for source, path in found.items():
            state = str(path) if path else "not here"
            print(json.dumps({"source": source, "path": path and str(path)}) if as_json else f"{source}\t{state}")
        if None in found.values():
            raise typer.Exit(MissingError.exit_code)


@app.command()
def cache(
    cache_dir: CacheDir = None,
    trim: Annotated[str, typer.Option(metavar="SIZE", help="Remove what is worth least until the rest fits.")] = "",
    clear: Annotated[bool, typer.Option("--clear", help="Remove everything.")] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show what is kept between runs, and remove some or all of it."""
    with answering(as_json, debug):
        if trim and clear:
            raise UsageError("--trim and --clear exclude each other")
        disk = _disk(cache_dir)
        files, nbytes = disk.trim(0 if clear else parsed_size("--trim", trim)) if trim or clear else (0, 0)
        about = {"folder": str(disk.folder), "results": len(disk), "bytes": disk.nbytes, "budget": disk.budget}
        if as_json:
            print(json.dumps(about | {"removed": files, "removed_bytes": nbytes}))
        else:
            if trim or clear:
                print(f"removed {files} results, {human_size(nbytes)}")
            print(
                f"{len(disk)} results, {human_size(disk.nbytes)} of at most {human_size(disk.budget)}, in {disk.folder}"
            )


@app.command()
def workflows(as_json: AsJson = False, debug: Debug = False) -> None:
    """List the workflows that come with Kinograph; `run` takes them by name."""
    with answering(as_json, debug):
        from engine.documents import read, shipped

        for name in shipped():
            about = read(name).workflow
            row = {"name": name, "title": about.title, "inputs": about.inputs}
            print(json.dumps(row) if as_json else f"{name}\t{about.title}")


def _document(file: str, settings: list[str], nodes: list[Path]) -> tuple[Document, Registry]:
    from engine.documents import read, with_setting

    document, registry = read(file), _registry(nodes)
    workflow = document.workflow
    for setting in settings:
        workflow = with_setting(workflow, registry, setting)
    return replace(document, workflow=workflow), registry


def _registry(files: list[Path]) -> Registry:
    from engine.registry import Registry, load_file
    from nodes import registry

    if not files:
        return registry()
    added = Registry.of_modules(*map(load_file, files))
    return Registry([*registry().values(), *added.values()])


def _ready(
    document: Document, registry: Registry, shown: Reporter, interrupts: Interrupts, targets: list[str] | None
) -> Graph:
    """The checked graph, with its models fetched."""
    from engine.documents import models_of
    from engine.graph import check
    from engine.models import can_fetch

    needed = models_of(document.workflow, registry)
    try:
        graph = check(document.workflow, registry, base=document.base, targets=targets)
    except MissingError as error:
        fetchable = {place for source, places in needed.items() if can_fetch(source) for place in places}
        if any((problem.node, problem.input) not in fetchable for problem in error.problems):
            raise  # nothing is fetched for a run that can't be
        _fetch(needed, document.base, shown, interrupts)
        return check(document.workflow, registry, base=document.base, targets=targets)
    _fetch(needed, document.base, shown, interrupts)
    return graph


def _fetch(
    needed: Mapping[str, list[tuple[str, str]]], base: Path | None, shown: Reporter, interrupts: Interrupts
) -> None:
    """Fetch the models that are not here; raises MissingError with all that cannot be had, and who needs them."""
    from engine.models import find, resolve

    one_at_a_time = threading.Lock()
    problems: list[Problem] = []
    for source, places in needed.items():

        def progress(done: int, total: int, source: str = source) -> None:
            if interrupts.stopped:
                raise Cancelled
            with one_at_a_time:
                shown.download(source, done, total)

        try:
            if find(source, base=base) is None:
                shown.downloaded(source, resolve(source, base=base, progress=progress))
        except MissingError as error:
            named = [replace(p, node=node, input=socket) for p in error.problems for node, socket in places]
            problems += named or error.problems
    if problems:
        raise MissingError.of(problems)


def _events(execution: Execution, shown: Reporter, interrupts: Interrupts) -> Iterator[Event]:
    """Run it, and show and hand on its events."""
    interrupts.execution = execution
    if interrupts.stopped:  # by a signal that a library took for an error of its own
        raise Cancelled
    for event in execution:
        shown.event(event)
        yield event
    interrupts.execution = None


def _check_folder(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is not a folder")


def _cache(folder: Path | None, no_cache: bool, on_disk: str, in_memory: str, models: Models, device: str) -> Cache:
    """The cache, which shares the device's memory with the models."""
    from engine.cache import Cache

    memory = parsed_size("--cache-host", in_memory) if in_memory else None
    disk = None
    if no_cache and (folder or on_disk):
        raise UsageError(f"--no-cache and {'--cache-dir' if folder else '--cache-disk'} exclude each other")
    if not no_cache:
        disk = _disk(folder, parsed_size("--cache-disk", on_disk) if on_disk else None)
    cache = Cache(memory, disk, device=lambda: max(0, models.device_budget(device) - models.device_nbytes))
    models.on_move = cache.device.trim
    return cache


def _disk(folder: Path | None, budget: int | None = None) -> Disk:
    from engine.disk import Disk
    from engine.models import home

    folder = folder or home() / "cache"
    try:
        return Disk(folder, budget)
    except OSError as error:
        raise UsageError(
            f"results can't be kept in {folder}: {error.strerror}", hint="--cache-dir or --no-cache"
        ) from error


def _labels(workflow: Workflow, registry: Registry) -> Labels:
    """What to call the nodes: their titles, or else their kinds, with the ids that `--set` takes."""
    from engine.console import Labels
    from engine.subgraphs import inlined

    graph = inlined(workflow, registry).workflow.graph
    return Labels({node: f"{entry.meta.get('title') or entry.class_type} ({node})" for node, entry in graph.items()})


if __name__ == "__main__":
    main()
