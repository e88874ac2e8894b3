"""The options and arguments that several commands take, in groups."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.errors import UsageError
from engine.store.sizes import parsed_size

if TYPE_CHECKING:
    from engine.document.reading import Document
    from engine.models.folders import ModelFolders
    from engine.registry import Registry
    from engine.run.resources import CacheLimits

Nodes = Annotated[
    list[Path], typer.Option("--nodes", metavar="FILE.py", help="Add the nodes that a Python file defines.")
]
Set = Annotated[
    list[str],
    typer.Option(
        "--set", metavar="INPUT=VALUE", help="Give an input a value: node.input, or a name that the workflow exposes."
    ),
]
Out = Annotated[Path, typer.Option(metavar="DIR", help="The folder that files are saved to.")]


def _without_empty(ctx: typer.Context, param: typer.CallbackParam, given: list[Path]) -> list[Path]:
    """What the environment lists without its empty parts, each of which typer takes for the working folder."""
    from engine.models.given import in_environment

    source = ctx.get_parameter_source(param.name or "")
    return in_environment() if source is not None and source.name == "ENVIRONMENT" else given


Models = Annotated[
    list[Path],
    typer.Option(
        "--models",
        metavar="DIR",
        envvar="KINOGRAPH_MODELS",
        callback=_without_empty,
        help="A folder of models, ComfyUI's or AUTOMATIC1111's, or extra_model_paths.yaml; may be given several times.",
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the Python traceback of an error.")]
Device = Annotated[
    str, typer.Option(help="Where models compute: cpu, cuda, cuda:1, mps; by default the best available.")
]


@dataclass(frozen=True)
class Printing:
    """How a command prints its results."""

    as_json: Annotated[bool, typer.Option("--json", help="Write JSON on standard output, for programs.")] = False
    debug: Debug = False


@dataclass(frozen=True)
class Overrides:
    """Values set in a workflow, and further kinds of node for it."""

    settings: Set = field(default_factory=list)
    nodes: Nodes = field(default_factory=list)

    def document(self, file: str) -> Document:
        """The document that a command line names, with its inputs changed."""
        from engine.document.reading import read
        from engine.document.settings import with_setting

        document = read(file, registry(self.nodes))
        prepared = document.prepared
        for setting in self.settings:
            prepared = with_setting(prepared, setting)
        return replace(document, prepared=prepared)


@dataclass(frozen=True)
class Chosen(Overrides):
    """The workflow that a command is about."""

    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="A workflow file, a PNG or MP4 that contains one, the name of a shipped one, or - for standard input.",
            show_default=False,
        ),
    ] = field(kw_only=True)

    def read(self) -> Document:
        return self.document(self.file)


@dataclass(frozen=True)
class ModelOptions:
    """Where models are, besides the workflow's folder and the working folder."""

    models: Models = field(default_factory=list)

    def folders(self) -> ModelFolders:
        """The folders of models; tells what is passed over. Raises UsageError for one that isn't there."""
        return told_folders(self.models)

    def of(self, document: Document) -> Document:
        """The document with its models looked for there too."""
        return replace(document, folders=self.folders())


@dataclass(frozen=True)
class CacheFolder:
    """Where results are kept."""

    cache_dir: Annotated[
        Path | None,
        typer.Option("--cache-dir", metavar="DIR", help="Where results are kept between runs.", show_default=False),
    ] = None


@dataclass(frozen=True)
class CacheOptions(CacheFolder):
    """Where results are kept, and how much room they may take."""

    cache_device: Annotated[
        str,
        typer.Option(
            metavar="SIZE",
            help="GPU memory for models and results; by default what is free and isn't needed to compute.",
        ),
    ] = ""
    cache_host: Annotated[
        str,
        typer.Option(metavar="SIZE", help="Memory for results; by default a quarter of the machine's or container's."),
    ] = ""
    cache_disk: Annotated[
        str,
        typer.Option(
            metavar="SIZE", help="Disk space for results, such as 20GB; by default a quarter of what is free."
        ),
    ] = ""

    def limits(self) -> CacheLimits:
        """The limits in bytes; raises UsageError for an invalid size."""
        from engine.run.resources import CacheLimits

        sizes = {"--cache-device": self.cache_device, "--cache-host": self.cache_host, "--cache-disk": self.cache_disk}
        device, host, disk = (parsed_size(name, text) if text else None for name, text in sizes.items())
        return CacheLimits(self.cache_dir, device, host, disk)


@dataclass(frozen=True)
class ExecutionOptions(CacheOptions):
    """Where a run computes, what it keeps and where its files go."""

    no_cache: Annotated[bool, typer.Option("--no-cache", help="Compute everything, and keep nothing.")] = False
    out: Out = Path("output")
    device: Device = ""

    def limits(self) -> CacheLimits:
        if self.out.exists() and not self.out.is_dir():
            raise UsageError(f"--out {self.out} is not a folder")
        if self.no_cache and (self.cache_dir or self.cache_disk):
            option = "--cache-dir" if self.cache_dir else "--cache-disk"
            raise UsageError(f"--no-cache and {option} exclude each other")
        return replace(super().limits(), keep=not self.no_cache)

    def chosen_device(self) -> str:
        """The device asked for, or the best available."""
        from engine.run import devices

        return devices.checked(self.device) if self.device else devices.best()


def told_folders(given: list[Path]) -> ModelFolders:
    """The folders of models in what is given, once people are told what is passed over; raises UsageError."""
    from engine.models.given import model_folders

    folders = model_folders(given)
    for note in folders.notes:
        print(f"warning: {note}", file=sys.stderr)
    return folders


def registry(files: list[Path]) -> Registry:
    """All kinds of node, including those of Python files."""
    from nodes import registry

    return registry(files)
