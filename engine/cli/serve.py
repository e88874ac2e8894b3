"""The command `serve`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli.answering import answering
from engine.cli.groups import with_groups
from engine.cli.options import CacheOptions, Models, Nodes, Out, Printing, registry, told_folders
from engine.store.sizes import parsed_size

if TYPE_CHECKING:
    from engine.server.http.settings import Folders


@dataclass(frozen=True)
class Listening:
    """Where the server listens, and to whom."""

    host: Annotated[str, typer.Option(help="The address to listen on; one that others can reach needs a token.")] = (
        "127.0.0.1"
    )
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on; 0 takes any free one.")] = 8188
    token: Annotated[
        str, typer.Option(envvar="KINOGRAPH_TOKEN", help="The token that requests need; better set by the variable.")
    ] = ""
    allow_host: Annotated[
        list[str], typer.Option("--allow-host", metavar="NAME", help="A further host name of the server.")
    ] = field(default_factory=list)


@dataclass(frozen=True)
class FolderOptions:
    """The only folders that requests and workflows can access, and the server's own."""

    input: Annotated[Path, typer.Option("--input", metavar="DIR", help="The folder that workflows read from.")] = Path(
        "input"
    )
    out: Out = Path("output")
    models: Models = field(default_factory=list)
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The folder for the queue, history and saved workflows.", show_default=False),
    ] = None

    def folders(self) -> Folders:
        from engine.models import home
        from engine.server.http.settings import Folders

        data = self.data or home() / "server"
        given = told_folders(self.models)
        own = next(iter(given.roots), Path("models").absolute())
        return Folders(self.input.absolute(), self.out.absolute(), own, data, given)


@dataclass(frozen=True)
class WorkerOptions:
    """Where jobs run, and what they may take."""

    device: Annotated[
        list[str], typer.Option("--device", help="A device to run jobs on, with its own worker; by default every GPU.")
    ] = field(default_factory=list)
    memory: Annotated[
        str,
        typer.Option(
            metavar="SIZE", help="Memory for a worker; by default nine tenths of the machine's or container's."
        ),
    ] = ""
    stall: Annotated[float, typer.Option(min=1, help="Seconds that a job may go without progress.")] = 1800.0
    nodes: Nodes = field(default_factory=list)


@with_groups
def serve(
    listening: Listening, folders: FolderOptions, workers: WorkerOptions, cache: CacheOptions, printing: Printing
) -> None:
    """Open the editor in the browser, and run jobs for it and for ComfyUI's clients.

    Jobs wait in a queue on disk: however the server ends, they are still there when it starts again, and interrupted
    jobs continue from what they had stored.
    """
    with answering(printing):
        from engine.run import devices
        from engine.server.http.settings import ServerSettings
        from engine.server.serving import serving

        limits = cache.limits()
        settings = ServerSettings(
            folders.folders(),
            host=listening.host,
            port=listening.port,
            token=listening.token,
            hosts=tuple(listening.allow_host),
            devices=tuple(map(devices.named, workers.device)),
            nodes=tuple(path.absolute() for path in workers.nodes),
            memory_limit=parsed_size("--memory", workers.memory) if workers.memory else None,
            stall_seconds=workers.stall,
            cache=replace(limits, folder=limits.folder and limits.folder.absolute()),
        )
        serving(settings, registry(workers.nodes), as_json=printing.as_json)
