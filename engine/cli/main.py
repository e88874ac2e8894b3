"""The command `kinograph`: run, check and describe workflows, nodes and models.

Results go to standard output, everything else to standard error. The exit codes are those of `engine.errors`. Slow
imports are left to the commands that need them, so that `--help` appears at once.
"""

from __future__ import annotations

import sys
from io import TextIOWrapper
from typing import Annotated

import typer

from engine.cli.inspect import cache, export, models, nodes, validate, workflows
from engine.cli.new_pack import new_pack
from engine.cli.run import run, sweep
from engine.cli.serve import serve

app = typer.Typer(
    help="Run node-graph workflows for generative video: language to pictures to video, from one JSON file.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def about(version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False) -> None:
    if version:
        from importlib.metadata import version as installed

        print(f"kinograph {installed('kinograph')}")
        raise typer.Exit


for command in (run, sweep, serve, validate, export, nodes, models, cache, workflows, new_pack):
    app.command()(command)


def main() -> None:
    """Run the command line; ends the process."""
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # where letters that a text has can't be shown
    app()
