"""The process that imports a pack and describes its kinds: `python -m engine.packs.describe SECONDS MODULE…`.

The description is all that goes to standard output: whatever the pack prints goes to standard error.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
from importlib import import_module

from engine.packs.description import Description, describe
from engine.registry import Registry, reason


def described(modules: list[str]) -> Description:
    """The description of these modules' kinds, or why they can't be imported."""
    try:
        return describe(Registry.of_modules(*map(import_module, modules)).values())
    except BaseException as error:  # noqa: BLE001 - a pack may raise anything, SystemExit and KeyboardInterrupt too
        return Description(problem=f"can't be imported: {reason(error)}")


def main(seconds: str, *modules: str) -> None:
    answer = os.dup(1)  # not inherited by programs that the pack starts
    os.dup2(2, 1)
    faulthandler.dump_traceback_later(float(seconds), exit=True)  # in case the parent is gone
    data = json.dumps(described(list(modules)).model_dump()).encode()  # unlike pydantic's JSON, it keeps infinity
    with os.fdopen(answer, "wb") as file:
        file.write(data)
    os._exit(0)  # without waiting for threads that the pack has started


if __name__ == "__main__":
    main(*sys.argv[1:])
