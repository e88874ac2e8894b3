"""Whether Kinograph is right and fast on a GPU.

    python -m benchmarks.gpu [engine] [models] [text] [--device cuda] [--minutes 8] [--out gpu-report] [--small]

Each part is a row of steps; a step makes a claim, tries it, and measures. What fails, or takes too long, costs only
itself. The report is written as Markdown and as JSON after every step, so that what was seen isn't lost if time runs
out. On a CPU, `--small` shows that the script works: what it then says is nothing about a GPU.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.gpu.report import as_json, as_markdown, machine
from benchmarks.gpu.running import Outcome, Terms, run_part
from engine.errors import UsageError
from engine.run.devices import checked

PARTS = ("engine", "models", "text")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"{', '.join(PARTS)}; all of them if none is named")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=8.0, help="after which all is over")
    parser.add_argument("--out", type=Path, default=Path("gpu-report"), help="the reports, without extension")
    parser.add_argument("--small", action="store_true", help="sizes for a CPU")
    given = parser.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}: choose from {', '.join(PARTS)}")
    try:
        device = checked(given.device)
    except UsageError as error:
        parser.error(str(error))
    about, outcomes = machine(device), list[Outcome]()

    def tell(outcome: Outcome) -> None:
        outcomes.append(outcome)
        given.out.with_suffix(".json").write_text(as_json(about, outcomes), "utf-8")
        given.out.with_suffix(".md").write_text(as_markdown(about, outcomes), "utf-8")
        sign = "NO " if outcome.problem else "yes"
        figures = outcome.problem or outcome.figures
        print(f"{sign} {outcome.part} {outcome.step} {outcome.seconds:.1f} s {figures}", flush=True)

    until = time.monotonic() + 60 * given.minutes
    for part in given.parts or PARTS:
        with TemporaryDirectory() as folder:
            terms = Terms(device, Path(folder), given.small, until, limit=120.0, tell=tell)
            asyncio.run(run_part(f"benchmarks.gpu.{part}", terms))
    return int(any(outcome.problem for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
