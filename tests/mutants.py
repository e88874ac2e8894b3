"""How many small mistakes the tests see: a seeded sample of them, each of which should make a test fail.

    make mutants COUNT=100 SEED=1      # hours; it may be stopped, and goes on where it was

First the tests run once with coverage.py, which notes which test runs which line. Then, in a copy of the tree, one
mistake after another is made, and the tests that run its line are run until one fails: those of its part first, the
quickest first. What no test saw is printed with its place and change: some mistakes are equal in effect, for the others
tests are missing. Once these are written, `--again tests/part/test_x.py …` tries what lived with them alone.
Code that has changed much is measured anew with `--measure`. All is kept in `.mutants/`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from difflib import unified_diff
from hashlib import sha256
from importlib.util import cache_from_source
from pathlib import Path

import psutil

from tests.covering import LONGEST, Measured, code, environment, measure
from tests.mistakes import Mistake, mistakes

ROOT = Path(__file__).parents[1]
BATCHES = (3, 12)
"""Test files that are run first, and next: with few of them pytest starts sooner."""


def sample(root: Path, count: int, seed: int) -> list[Mistake]:
    """As many mistakes, spread over all files by how many each can have; most stay the same when code changes."""
    every = [mistake for path in code(root) for mistake in mistakes(path, (root / path).read_text(encoding="utf-8"))]
    return sorted(every, key=lambda mistake: sha256(f"{seed} {mistake.name}".encode()).digest())[:count]


@dataclass(frozen=True)
class Copy:
    """A copy of all that isn't ignored, and of the built editor, to make mistakes in."""

    root: Path
    tree: Path

    def refresh(self) -> None:
        """Make it the same as the working tree."""
        listing = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
        listed = subprocess.run(listing, cwd=self.root, capture_output=True, text=True, check=True).stdout.split("\0")
        names = {name for name in listed if (self.root / name).is_file()}
        names |= {str(path.relative_to(self.root)) for path in (self.root / "engine/server/editor").rglob("*.*")}
        there = [path for path in self.tree.rglob("*") if path.is_file() and path.suffix != ".pyc"]
        for path in there:
            if str(path.relative_to(self.tree)) not in names:
                path.unlink()
        for name in names:
            self._put(name, (self.root / name).read_bytes())

    @contextmanager
    def having(self, mistake: Mistake) -> Iterator[None]:
        """Within it the copy has a mistake."""
        source = (self.root / mistake.path).read_bytes()
        self._put(mistake.path, mistake.made_in(source))
        try:
            yield
        finally:
            self._put(mistake.path, source)

    def _put(self, name: str, content: bytes) -> None:
        """Make a file this, and have Python forget what it had compiled."""
        path = self.tree / name
        if not path.exists() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            Path(cache_from_source(path)).unlink(missing_ok=True)

    def fails(self, tests: Sequence[str], seconds: float) -> bool:
        """Whether one of the tests fails, can't be collected, or takes far longer than these seconds."""
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-m", "not full", "-p", "no:cacheprovider", *tests]
        with (self.tree.parent / "tests.log").open("w") as log:
            run = subprocess.Popen(
                command, cwd=self.tree, env=environment(self.tree), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
            try:
                return run.wait(60 + 5 * seconds) not in (0, 5)  # 5: there are no such tests
            except subprocess.TimeoutExpired:
                return True
            finally:
                if run.poll() is None:
                    _end(run)


def _end(run: subprocess.Popen[bytes]) -> None:
    """End a process with all that it has started."""
    parent = psutil.Process(run.pid)
    for process in (*parent.children(recursive=True), parent):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    run.wait()


def is_seen(copy: Copy, mistake: Mistake, measured: Measured, again: Sequence[str]) -> bool:
    """Whether a test fails on a mistake; only those of `again` are run if there are any."""
    files, begin = measured.tests_of(mistake.path, mistake.line), 0
    with copy.having(mistake):
        if again:
            return copy.fails(again, LONGEST)
        for end in (*BATCHES, len(files)):
            tests = [name for file in files[begin:end] for name in file]
            if tests and copy.fails(tests, measured.seconds(tests)):
                return True
            begin = end
    return False


def try_all(
    copy: Copy, picked: Sequence[Mistake], measured: Measured, kept: Path, again: Sequence[str]
) -> dict[str, bool]:
    """Whether each mistake is seen, by name; what is kept isn't tried, or with `again` what has lived only."""
    lines = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    seen = {line["name"]: line["seen"] for line in lines}
    lived = {name for name, is_seen in seen.items() if not is_seen}
    to_try = [mistake for mistake in picked if (mistake.name in lived if again else mistake.name not in seen)]
    begin = time.monotonic()
    for number, mistake in enumerate(to_try, 1):
        seen[mistake.name] = is_seen(copy, mistake, measured, again)
        with kept.open("a") as file:
            file.write(json.dumps({"name": mistake.name, "seen": seen[mistake.name]}) + "\n")
        what = "seen " if seen[mistake.name] else "LIVED"
        left = (time.monotonic() - begin) / number * (len(to_try) - number) / 60
        print(f"{number}/{len(to_try)} {what} {mistake.path}:{mistake.line}, about {left:.0f} min left", flush=True)
    return seen


def report(root: Path, tried: Sequence[Mistake], seen: dict[str, bool]) -> str:
    """What lived, as differences, and how many were seen."""
    lines = []
    for mistake in sorted(tried, key=lambda mistake: (mistake.path, mistake.line)):
        if not seen[mistake.name]:
            source = (root / mistake.path).read_bytes()
            before, after = (text.decode().splitlines() for text in (source, mistake.made_in(source)))
            lines += [f"{mistake.path}:{mistake.line}", *list(unified_diff(before, after, n=0, lineterm=""))[3:], ""]
    caught = sum(seen[mistake.name] for mistake in tried)
    return "\n".join([*lines, f"{caught} of {len(tried)} mistakes were seen ({caught / max(len(tried), 1):.0%})"])


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--count", type=int, default=100)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--processes", type=int, default=2, help="for measuring")
    options.add_argument("--measure", action="store_true", help="note anew which test runs which line")
    options.add_argument("--again", nargs="+", default=(), metavar="TESTS", help="try what lived with these tests")
    chosen = options.parse_args()
    work = ROOT / ".mutants"
    copy = Copy(ROOT, work / "tree")
    copy.refresh()
    if chosen.measure or not (measured := Measured.read(copy.tree, work)):
        measure(copy.tree, work, chosen.processes)
        measured = Measured.read(copy.tree, work)
    assert measured
    picked = sample(ROOT, chosen.count, chosen.seed)
    seen = try_all(copy, picked, measured, work / "seen.jsonl", chosen.again)
    print(report(ROOT, [mistake for mistake in picked if mistake.name in seen], seen))
    return 0


if __name__ == "__main__":
    sys.exit(main())
