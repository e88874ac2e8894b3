"""The commands that compute nothing: `validate`, `export`, `nodes`, `models`, `cache`, `workflows`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli.answering import answering
from engine.cli.groups import with_groups
from engine.cli.interrupts import Interrupts
from engine.cli.options import CacheFolder, Chosen, Debug, ModelOptions, Nodes, Overrides, Printing, registry
from engine.errors import MissingError, UsageError, suggestion
from engine.store.sizes import human_size, parsed_size

if TYPE_CHECKING:
    from engine.document.prepared import Socket
    from engine.models.folders import ModelFolders


@with_groups
def validate(chosen: Chosen, models: ModelOptions, printing: Printing) -> None:
    """Check a workflow without running it, and report everything that is wrong with it."""
    with answering(printing):
        from engine.graph.check import examine

        document = models.of(chosen.read())
        warnings = document.prepared.warnings
        for problem in () if printing.as_json else warnings:
            print(f"warning: {problem}", file=sys.stderr)
        found = examine(document.prepared, base=document.base, folders=document.folders)
        if not found.can_run:
            raise found.error()
        if printing.as_json:
            about = {"nodes": found.nodes, "targets": found.targets, "warnings": [*map(asdict, warnings)]}
            print(json.dumps({"valid": True} | about | {"to_fetch": found.to_fetch()}))
        else:
            print(f"{document.name} is valid: {found.nodes} nodes, of which {len(found.targets)} save files")
            for source in found.to_fetch():
                print(f"a run fetches {source}, which is not on this machine")


@with_groups
def export(
    chosen: Chosen,
    *,
    python: Annotated[bool, typer.Option("--python", help="As code that builds it, by `kinograph.Graph`.")] = False,
    debug: Debug = False,
) -> None:
    """Write a workflow, with the inputs that were set, as JSON or as Python code."""
    with answering(Printing(debug=debug)):
        from engine.cli.export import python_code

        document = chosen.read()
        if python:
            print(python_code(document, [str(path.absolute()) for path in chosen.nodes]).rstrip())
        else:
            print(json.dumps(document.document(), indent=2, ensure_ascii=False))


@with_groups
def nodes(
    printing: Printing,
    name: Annotated[str, typer.Argument(help="A kind of node to describe in full.")] = "",
    schema: Annotated[bool, typer.Option("--schema", help="Write the JSON Schema of workflow files.")] = False,
    nodes: Nodes = [],  # noqa: B006
) -> None:
    """List the kinds of node, or describe one: its help, inputs, outputs and JSON schema."""
    with answering(printing):
        from engine.catalogue import as_data
        from engine.cli.describe import in_full, in_short, problems_of_packs

        known = registry(nodes)
        for line in problems_of_packs(known):
            print(line, file=sys.stderr)
        if schema:
            from engine.document.schema import schema_of

            if name:
                raise UsageError(
                    "--schema describes all kinds of node, and takes no name", hint="kinograph nodes --schema"
                )
            print(json.dumps(schema_of(known), indent=2))
            return
        if name and name not in known:
            raise UsageError(f"no kind of node is called '{name}'", hint=suggestion(name, known))
        kinds = [known[name]] if name else list(known.values())
        if printing.as_json:
            data = {kind.spec.kind: as_data(kind) for kind in kinds}
            print(json.dumps(data[name] if name else data, indent=2))
        else:
            print(in_full(kinds[0]) if name else in_short(kinds))


@with_groups
def models(
    overrides: Overrides,
    places: ModelOptions,
    printing: Printing,
    file: Annotated[
        str, typer.Argument(metavar="[FILE]", help="A workflow, to list the models it needs, or a model's source.")
    ] = "",
    fetch: Annotated[bool, typer.Option("--fetch", help="Fetch those that are not on this machine.")] = False,
) -> None:
    """List the models on this machine, or those that a workflow needs, and fetch them."""
    with answering(printing), Interrupts() as interrupts:
        from engine.models import can_fetch, find

        folders = places.folders()
        if not file:
            if fetch:
                raise UsageError("--fetch needs a workflow or a model", hint="write kinograph models FILE --fetch")
            _list_models(folders, as_json=printing.as_json)
            return
        base: Path | None = None
        needed: Mapping[str, tuple[Socket, ...]] = {file: ()}
        wanted: Mapping[str, tuple[str, ...]] = {}
        if not can_fetch(file):
            document = overrides.document(file)
            base, needed, wanted = document.base, document.prepared.models, document.prepared.wanted
        if fetch:
            from engine.cli.console import reporter
            from engine.run.preparing import fetch_models

            fetched = {source: sockets for source, sockets in needed.items() if can_fetch(source)}
            with reporter({}, as_json=printing.as_json, debug=printing.debug) as shown:
                fetch_models(fetched, shown, interrupts)
        found = {each: find(each, base=base, folders=folders, wanted=wanted.get(each, ())) for each in needed}
        for source, path in found.items():
            row = {"source": source, "path": path and str(path)}
            print(json.dumps(row) if printing.as_json else f"{source}\t{path or 'not on this machine'}")
        if None in found.values():
            raise typer.Exit(MissingError.exit_code)


def _list_models(folders: ModelFolders, *, as_json: bool) -> None:
    """Print the models on this machine: source, category, size, path, and why one can't be used."""
    from engine.models.listing import available

    for model in available(folders):
        if as_json:
            about = {"source": model.source, "category": model.category or None, "bytes": model.nbytes}
            print(json.dumps(about | {"path": str(model.path), "problem": model.problem or None}))
        else:
            cells = (model.source, model.category or "-", human_size(model.nbytes), str(model.path), model.problem)
            print(*filter(None, cells), sep="\t")


@with_groups
def cache(
    kept: CacheFolder,
    printing: Printing,
    trim: Annotated[
        str, typer.Option(metavar="SIZE", help="Remove the least valuable results until the rest fit.")
    ] = "",
    clear: Annotated[bool, typer.Option("--clear", help="Remove everything.")] = False,
) -> None:
    """Show what is kept between runs, and remove some or all of it."""
    with answering(printing):
        from engine.run.resources import open_disk

        if trim and clear:
            raise UsageError("--trim and --clear exclude each other")
        disk = open_disk(kept.cache_dir)
        files, nbytes = disk.trim(0 if clear else parsed_size("--trim", trim)) if trim or clear else (0, 0)
        if printing.as_json:
            about = {"folder": str(disk.folder), "results": len(disk), "bytes": disk.nbytes, "budget": disk.budget}
            print(json.dumps(about | {"removed": files, "removed_bytes": nbytes}))
            return
        if trim or clear:
            print(f"removed {files} results, {human_size(nbytes)}")
        print(f"{len(disk)} results, {human_size(disk.nbytes)} of at most {human_size(disk.budget)}, in {disk.folder}")


@with_groups
def workflows(printing: Printing) -> None:
    """List the workflows that come with Kinograph; `run` takes them by name."""
    with answering(printing):
        from engine.document.reading import read
        from engine.document.shipped import shipped

        known = registry([])
        for name in shipped():
            about = read(name, known).workflow
            row = {"name": name, "title": about.title, "inputs": about.inputs}
            print(json.dumps(row) if printing.as_json else f"{name}\t{about.title}")
