"""The process that imports a pack and describes its kinds: `python -m engine.packs.describe SECONDS MODULE…`.

The description goes to standard output, where nothing else can write: whatever the pack prints goes to standard error.
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
    """What these modules define, or why they can't be imported."""
    try:
        return describe(Registry.of_modules(*map(import_module, modules)).values())
    except BaseException as error:  # noqa: BLE001 - a pack may raise what it likes, SystemExit and KeyboardInterrupt too
        return Description(problem=f"can't be imported: {reason(error)}")


def main(seconds: str, *modules: str) -> None:
    told = os.dup(1)  # which programs that the pack starts don't inherit
    os.dup2(2, 1)
    faulthandler.dump_traceback_later(float(seconds), exit=True)  # if nobody is left who waits
    answer = json.dumps(described(list(modules)).model_dump()).encode()  # which has words for infinity
    with os.fdopen(told, "wb") as file:
        file.write(answer)
    os._exit(0)  # without waiting for threads that the pack has started


if __name__ == "__main__":
    main(*sys.argv[1:])
