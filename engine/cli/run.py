"""The commands that compute: `run` and `sweep`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from engine.cli.answering import answering
from engine.cli.groups import with_groups
from engine.cli.interrupts import Interrupts
from engine.cli.options import Chosen, ExecutionOptions, ModelOptions, Printing
from engine.errors import UsageError
from engine.run.quiet import quiet_libraries


@with_groups
def run(
    chosen: Chosen,
    *,
    until: Annotated[
        str, typer.Option("--until", metavar="NODE", help="Run this node and what it needs, and nothing else.")
    ] = "",
    only: Annotated[
        str, typer.Option("--only", metavar="NODE", help="Run this node alone, on results that earlier runs have kept.")
    ] = "",
    options: ExecutionOptions,
    models: ModelOptions,
    printing: Printing,
) -> None:
    """Run a workflow, save its files, and print their paths.

    Results that any earlier run computed come from the cache. Ctrl-C cancels the run before its next step; everything
    finished by then is kept for the next one. With --until or --only, the node's outputs are printed if it saves no
    files.
    """
    with answering(printing), Interrupts() as interrupts:
        from engine.cli.console import Labels, reporter
        from engine.events import NodeSaved
        from engine.run.preparing import runnable_graph
        from engine.run.resources import open_resources, stream_events

        if not printing.debug:
            quiet_libraries()
        limits = options.limits()
        if until and only:
            raise UsageError("--until and --only exclude each other")
        document, target = models.of(chosen.read()), until or only
        if target:
            document = document.up_to(target)
        device = options.chosen_device()
        answers: list[str] = []
        try:
            with reporter(Labels.of(document.prepared), as_json=printing.as_json, debug=printing.debug) as shown:
                graph = runnable_graph(document, shown, interrupts, [target] if target else None)
                with open_resources(limits, device) as resources:
                    execution = resources.execution(graph, options.out, alone=bool(only))
                    for event in stream_events(execution, shown, interrupts):
                        if isinstance(event, NodeSaved):
                            answers += map(str, event.files)
                answers += [str(value) for outputs in execution.results.values() for value in outputs]
        finally:
            if not printing.as_json:
                print(*answers, sep="\n", end="\n" if answers else "")
        raise typer.Exit(execution.exit_code)


@with_groups
def sweep(
    chosen: Chosen,
    axis: Annotated[
        list[str],
        typer.Option(
            "--axis", metavar="INPUT=A,B,C", help="An input and the values to try; may be given several times."
        ),
    ],
    options: ExecutionOptions,
    models: ModelOptions,
    printing: Printing,
) -> None:
    """Run a workflow with every combination of values for some of its inputs.

    What combinations share is computed once; if one fails, the others still run. A labelled contact sheet and a table
    (CSV) are saved with their files, and their paths printed.
    """
    with answering(printing), Interrupts() as interrupts:
        from engine.cli.console import Labels, reporter
        from engine.run.preparing import runnable_graph
        from engine.run.resources import open_resources, stream_events
        from engine.run.sweep import Axis, combinations, joined, label_of, outcomes, record, save

        if not printing.debug:
            quiet_libraries()
        limits = options.limits()
        axes = [Axis.parse(text) for text in axis]
        document = models.of(chosen.read())
        made = combinations(document.imported(), axes, from_cwd=True)
        device = options.chosen_device()
        names = {f"{part}:": label_of(axes, values) for part, values in enumerate(made)}
        labels = Labels.of(document.prepared, names)
        with reporter(labels, as_json=printing.as_json, debug=printing.debug) as shown:
            graph = joined([runnable_graph(one, shown, interrupts, None) for one in made.values()])
            ends = outcomes(graph, made)
            with open_resources(limits, device) as resources:
                execution = resources.execution(graph, options.out)
                for event in stream_events(execution, shown, interrupts):
                    record(ends, event)
        sheet, table = save(axes, ends, options.out)
        saved = {"event": "sweep", "sheet": str(sheet), "table": str(table)}
        print(json.dumps(saved) if printing.as_json else f"{sheet}\n{table}")
        raise typer.Exit(execution.exit_code)
