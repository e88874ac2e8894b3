"""Start Python processes that import what this one does, and nothing from the working folder.

Python puts the working folder, or a script's folder, first on its import path, so that a user's own `queue.py` or
`nodes.py` would shadow modules of the same name.
"""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

ROOT = Path(__file__).resolve().parents[1]
"""The folder that the packages `engine` and `nodes` are in: a source tree, or where packages are installed."""

SECRETS = ("KINOGRAPH_TOKEN",)
"""Variables that no other process needs, such as one that runs nodes."""
SAFE_PATH = "PYTHONSAFEPATH"
"""The variable that keeps the working folder off the import path, as the option `-P` does."""


def command(*arguments: str) -> list[str]:
    """The command line of a Python process; it needs the variables of `environment`."""
    return [sys.executable, "-P", *arguments]


def environment() -> dict[str, str]:
    """The environment variables of such a process: this one's, without secrets.

    `PYTHONPATH` leads to the same copy of Kinograph, even if it runs from a source tree that isn't installed. Empty
    entries, which stand for the working folder, are left out.
    """
    kept = {name: value for name, value in os.environ.items() if name not in SECRETS}
    path = list(filter(None, kept.get("PYTHONPATH", "").split(os.pathsep)))
    if not _is_installed():
        path.insert(0, str(ROOT))
    return kept | {"PYTHONPATH": os.pathsep.join(path)} if path else kept


@contextmanager
def safe_path() -> Iterator[None]:
    """Within it, keep the working folder off the import path of processes that `multiprocessing` starts."""
    if sys.flags.safe_path:  # which they inherit
        yield
        return
    global _users
    with _counting:
        _users += 1
        os.environ[SAFE_PATH] = "1"
    try:
        yield
    finally:
        with _counting:
            _users -= 1
            if not _users:
                del os.environ[SAFE_PATH]


_counting = Lock()
_users = 0
"""How many `safe_path` blocks are active, in all threads."""


def _is_installed() -> bool:
    """Whether every process of this interpreter finds the same copy."""
    folders = {*site.getsitepackages(), site.getusersitepackages(), sysconfig.get_path("purelib")}
    return str(ROOT) in {str(Path(folder).resolve()) for folder in folders}
