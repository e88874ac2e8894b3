"""The options and arguments that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
CacheDevice = Annotated[
    str, typer.Option(metavar="SIZE", help="What models and results may take on a GPU; by default most of it.")
]
CacheHost = Annotated[
    str, typer.Option(metavar="SIZE", help="What results may take in memory; by default a quarter of the machine's.")
]
CacheDisk = Annotated[
    str, typer.Option(metavar="SIZE", help="What results may take on disk, such as 20GB; by default a quarter of it.")
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Compute everything, and keep nothing.")]
