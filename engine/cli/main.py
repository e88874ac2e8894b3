"""The command `kinograph`: run, check and describe workflows, nodes and models.

Results go to standard output, all else to standard error. The exit codes are those of `engine.errors`. What takes long
to import is imported by the command that needs it, so that `--help` is there at once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli.answering import answering
from engine.cli.interrupts import Interrupts
from engine.cli.options import (
    AsJson,
    CacheDevice,
    CacheDir,
    CacheDisk,
    CacheHost,
    Debug,
    Device,
    File,
    NoCache,
    Nodes,
    Only,
    Out,
    Set,
    Until,
)
from engine.errors import MissingError, UsageError, suggestion
from engine.run.quiet import quiet_libraries
from engine.store.sizes import human_size, parsed_size

if TYPE_CHECKING:
    from engine.cli.console import Labels
    from engine.document.prepared import Socket
    from engine.document.reading import Document
    from engine.registry import Registry

app = typer.Typer(
    help="Run node-graph workflows for generative video: language to pictures to video, from one JSON file.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


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
    cache_device: CacheDevice = "",
    cache_host: CacheHost = "",
    cache_disk: CacheDisk = "",
    no_cache: NoCache = False,
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
        from engine.cli.console import reporter
        from engine.events import NodeSaved
        from engine.run import devices
        from engine.run.preparing import ready
        from engine.run.session import CacheLimits, events_of, open_session

        if not debug:
            quiet_libraries()
        limits = CacheLimits.parsed(out, cache_dir, cache_device, cache_host, cache_disk, no_cache)
        if until and only:
            raise UsageError("--until and --only exclude each other")
        document = _document(file, set, nodes)
        target = until or only
        if target:
            document = document.up_to(target)
        device = devices.checked(device) if device else devices.best()
        answers: list[str] = []
        try:
            with reporter(_labels(document), as_json=as_json, debug=debug) as shown:
                graph = ready(document, shown, interrupts, [target] if target else None)
                with open_session(limits, device) as session:
                    execution = session.execution(graph, out, alone=bool(only))
                    for event in events_of(execution, shown, interrupts):
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
    cache_device: CacheDevice = "",
    cache_host: CacheHost = "",
    cache_disk: CacheDisk = "",
    no_cache: NoCache = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Run a workflow with every combination of several inputs' values.

    What combinations share is computed once; one that fails costs no other. A labelled contact sheet and a table (CSV)
    are saved with their files, and their paths written.
    """
    with answering(as_json, debug), Interrupts() as interrupts:
        from engine.cli.console import Labels, reporter
        from engine.run import devices
        from engine.run import sweep as grid
        from engine.run.preparing import ready
        from engine.run.session import CacheLimits, events_of, open_session

        if not debug:
            quiet_libraries()
        limits = CacheLimits.parsed(out, cache_dir, cache_device, cache_host, cache_disk, no_cache)
        axes = [grid.Axis.parse(text) for text in axis]
        document = _document(file, set, nodes)
        made = grid.combinations(document, axes, by_command=True)
        device = devices.checked(device) if device else devices.best()
        names = {f"{part}:": grid.in_short(axes, values) for part, values in enumerate(made)}
        own = _labels(document)
        labels = Labels(
            {f"{part}{node}": f"{label}, {told}" for part, told in names.items() for node, label in own.items()}
        )
        with reporter(labels, as_json=as_json, debug=debug) as shown:
            graph = grid.joined([ready(one, shown, interrupts, None) for one in made.values()])
            ends = grid.outcomes(graph, made)
            with open_session(limits, device) as session:
                execution = session.execution(graph, out)
                for event in events_of(execution, shown, interrupts):
                    grid.note(ends, event)
        sheet, table = grid.save(axes, ends, out)
        print(
            json.dumps({"event": "sweep", "sheet": str(sheet), "table": str(table)}) if as_json else f"{sheet}\n{table}"
        )
        raise typer.Exit(execution.exit_code)


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="The address to listen on; one that others can reach needs a token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")] = 8188,
    token: Annotated[
        str, typer.Option(envvar="KINOGRAPH_TOKEN", help="What every request must show; better given by the variable.")
    ] = "",
    allow_host: Annotated[
        list[str], typer.Option("--allow-host", metavar="NAME", help="A name that the server is known by.")
    ] = [],  # noqa: B006
    input: Annotated[Path, typer.Option("--input", metavar="DIR", help="The folder of what workflows read.")] = Path(
        "input"
    ),
    out: Out = Path("output"),
    models: Annotated[Path, typer.Option(metavar="DIR", help="The folder of models.")] = Path("models"),
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The folder of queue, history and saved workflows.", show_default=False),
    ] = None,
    device: Annotated[
        list[str], typer.Option("--device", help="Where jobs are computed, a worker for each; by default every GPU.")
    ] = [],  # noqa: B006
    memory: Annotated[
        str, typer.Option(metavar="SIZE", help="What a worker may take in memory; by default nine tenths of it.")
    ] = "",
    stall: Annotated[float, typer.Option(min=1, help="Seconds that a job may give no sign of progress.")] = 1800.0,
    nodes: Nodes = [],  # noqa: B006
    cache_dir: CacheDir = None,
    cache_device: CacheDevice = "",
    cache_host: CacheHost = "",
    cache_disk: CacheDisk = "",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Open the editor in the browser, and run jobs for it and for ComfyUI's clients.

    Jobs wait in a queue on disk: whatever ends the server, they are still there when it starts again, and those that
    were interrupted go on from what they had stored.
    """
    with answering(as_json, debug):
        from engine.models import home
        from engine.run import devices
        from engine.server.http.settings import Folders, ServerSettings
        from engine.server.serving import serving

        folders = Folders(input.absolute(), out.absolute(), models.absolute(), data or home() / "server")
        sizes = {"device": cache_device, "host": cache_host, "disk": cache_disk}
        cache = {"dir": str(cache_dir.absolute()) if cache_dir else "", **sizes}
        setup = ServerSettings(
            folders,
            *(
                host,
                port,
                token,
                tuple(allow_host),
                tuple(map(devices.named, device)),
                tuple(path.absolute() for path in nodes),
            ),
            memory_limit=parsed_size("--memory", memory) if memory else None,
            stall_seconds=stall,
            cache=cache,
        )
        serving(setup, _registry(nodes), as_json=as_json)


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
        from engine.graph.check import check

        document = _document(file, set, nodes)
        graph = check(document.prepared, base=document.base)
        if as_json:
            print(json.dumps({"valid": True, "nodes": len(graph.order), "targets": graph.targets}))
        else:
            print(f"{document.name} is valid: {len(graph.order)} nodes, of which {len(graph.targets)} save files")


@app.command()
def export(
    file: File,
    python: Annotated[bool, typer.Option("--python", help="As code that builds it, by `kinograph.Graph`.")] = False,
    set: Set = [],  # noqa: B006
    nodes: Nodes = [],  # noqa: B006
    debug: Debug = False,
) -> None:
    """Write a workflow, with the inputs that were set, as JSON or as Python code."""
    with answering(as_json=False, debug=debug):
        from engine.cli.export import python_code

        document = _document(file, set, nodes)
        print(
            python_code(document, [str(path.absolute()) for path in nodes]).rstrip()
            if python
            else json.dumps(document.document(), indent=2, ensure_ascii=False)
        )


@app.command()
def nodes(
    name: Annotated[str, typer.Argument(help="One kind of node, in full.")] = "",
    nodes: Nodes = [],  # noqa: B006
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """List the kinds of node, or describe one: its help, inputs, outputs and JSON schema."""
    with answering(as_json, debug):
        from engine.catalogue import as_data
        from engine.cli.describe import in_full, in_short

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
        from engine.cli.console import reporter
        from engine.models import can_fetch, find
        from engine.models.listing import here
        from engine.run.preparing import fetch_models

        if not file:
            if fetch:
                raise UsageError("--fetch needs a workflow or a model", hint="kinograph models FILE --fetch")
            found: Mapping[str, Path | None] = here()
        else:
            base: Path | None = None
            needed: Mapping[str, tuple[Socket, ...]] = {file: ()}
            if not can_fetch(file):
                document = _document(file, set, nodes)
                base, needed = document.base, document.prepared.models
            if fetch:
                with reporter({}, as_json=as_json, debug=debug) as shown:
                    fetch_models(needed, base, shown, interrupts)
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
        from engine.run.session import opened

        if trim and clear:
            raise UsageError("--trim and --clear exclude each other")
        disk = opened(cache_dir)
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
        from engine.document.reading import read
        from engine.document.shipped import shipped

        registry = _registry([])
        for name in shipped():
            about = read(name, registry).workflow
            row = {"name": name, "title": about.title, "inputs": about.inputs}
            print(json.dumps(row) if as_json else f"{name}\t{about.title}")


def _document(file: str, settings: list[str], nodes: list[Path]) -> Document:
    from engine.document.reading import read
    from engine.document.settings import with_setting

    document = read(file, _registry(nodes))
    workflow = document.prepared
    for setting in settings:
        workflow = with_setting(workflow, setting)
    return replace(document, prepared=workflow)


def _registry(files: list[Path]) -> Registry:
    from nodes import registry

    return registry(files)


def _labels(document: Document) -> Labels:
    """What to call the nodes: their titles, or else their kinds, with the ids that `--set` takes."""
    from engine.cli.console import Labels

    graph = document.prepared.flat.graph
    return Labels({node: f"{entry.meta.get('title') or entry.class_type} ({node})" for node, entry in graph.items()})
