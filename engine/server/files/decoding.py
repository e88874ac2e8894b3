"""Has untrusted files decoded by processes of their own, within limits: whatever a file does, it does it there."""

from __future__ import annotations

import asyncio
import signal
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from pathlib import Path

from engine.errors import UsageError
from engine.python import command, environment
from engine.server.files.decoder import Limits, Reply, Request

START_SECONDS = 60.0
"""How long a process may take to start."""
IDLE_SECONDS = 60.0
"""After how long without work a process is ended."""
TRY_LATER = "try again later; the server's log may say why"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""Variables without which libraries reserve memory for a thread per core."""


class Decoder:
    """A queue of files to be decoded, and the process that decodes them one by one.

    The process is started when it is needed, and ended when it is idle, takes too long, or at `close`.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._turn = asyncio.Lock()
        self._process: Process | None = None
        self._ending = set[asyncio.Task[None]]()
        self._idle: asyncio.TimerHandle | None = None

    async def run(self, call: str, *paths: Path, options: tuple[str | int, ...] = ()) -> None:
        """Call a method of `Pictures` with paths and further arguments.

        Raises:
            UsageError: it raised that, or exceeded a limit, or its process crashed.
        """
        request = Request.model_validate({"call": call, "paths": [str(path) for path in paths], "options": options})
        async with self._turn:
            if self._idle:
                self._idle.cancel()
            reply = await self._asked(request)
            self._idle = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._stop)
        if reply.problem:
            raise UsageError(reply.problem, hint=reply.hint)

    async def close(self) -> None:
        """End the process, and what it does."""
        if self._idle:
            self._idle.cancel()
        self._stop()
        await asyncio.gather(*self._ending)

    async def _asked(self, request: Request) -> Reply:
        process = await self._started()
        try:
            assert process.stdin
            with suppress(ConnectionError):  # then the process has ended, which reading tells
                process.stdin.write(request.model_dump_json().encode() + b"\n")
                await process.stdin.drain()
            async with asyncio.timeout(self.limits.seconds):
                return await self._answer(process)
        except TimeoutError:
            self._stop()
            return Reply(
                problem=f"decoding it takes longer than {self.limits.seconds:g} s", hint="scale it down, or convert it"
            )
        except BaseException:  # cancelled: the answer would be taken for that of the next request
            self._stop()
            raise

    async def _started(self) -> Process:
        """The process, ready for a request."""
        if self._process and self._process.returncode is None:
            return self._process
        process = self._process = await asyncio.create_subprocess_exec(
            *command("-m", "engine.server.files.decoder", self.limits.model_dump_json()),
            env=environment() | ONE_THREAD,
            stdin=PIPE,
            stdout=PIPE,
        )
        try:
            async with asyncio.timeout(START_SECONDS):
                reply = await self._answer(process)
        except BaseException as error:
            self._stop()
            if isinstance(error, TimeoutError):
                raise UsageError("the process that decodes pictures doesn't start", hint=TRY_LATER) from None
            raise
        if reply.problem:
            raise UsageError("the process that decodes pictures can't start", hint=TRY_LATER)
        return process

    async def _answer(self, process: Process) -> Reply:
        assert process.stdout
        line = await process.stdout.readline()
        if line:
            return Reply.model_validate_json(line)
        self._stop()
        return Reply(problem=f"decoding it ended in {_cause(await process.wait())}", hint="the file may be damaged")

    def _stop(self) -> None:
        """Kill the process; the next request starts another."""
        if self._process:
            ending = asyncio.create_task(_end(self._process))
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)
            self._process = None


async def _end(process: Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    assert process.stdin
    assert process.stdout
    process.stdin.close()
    await process.stdout.read()
    await process.wait()


def _cause(code: int) -> str:
    """A process's exit code in words."""
    try:
        return f"a crash ({signal.Signals(-code).name})"
    except ValueError:
        return f"a crash (exit code {code})"
