"""Descriptions of packs on disk, so that each is imported once and not whenever someone lists kinds.

`packs/<name>-<digest of the environment's folder>.json` in Kinograph's folder holds one, with all that it depends on:
the pack's name, version, modules and state, and the versions of Kinograph and of Python. One that only says why there
is none also depends on what else is installed, and is forgotten after a while.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from engine.atomic import write
from engine.models import home
from engine.packs.asking import ask
from engine.packs.description import Description, made_with
from engine.packs.offers import canonical
from engine.registry import Offer

FORGET_SECONDS = 600.0
"""How long it is believed that a pack can't be described."""


class Kept(BaseModel):
    """What a file holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    of: str
    """What it depends on, as one text."""
    around: str
    """What is installed, as one text."""
    time: float
    """When it was made, in seconds since 1970."""
    description: Description


def description_of(offer: Offer, asked: Callable[[Sequence[str]], Description] = ask) -> Description:
    """A pack's description: the one that is kept, if it still holds, or a new one, which is kept then."""
    path = home() / "packs" / f"{canonical(offer.pack.name)}-{_digest(sys.prefix)[:8]}.json"
    of = json.dumps([offer.pack.name, offer.pack.version, offer.pack.state, *offer.modules, made_with()])
    around = _around()
    with suppress(OSError, ValidationError):
        kept = Kept.model_validate_json(path.read_bytes())
        is_fresh = kept.around == around and 0 <= time.time() - kept.time < FORGET_SECONDS
        if kept.of == of and (kept.description.problem is None or is_fresh):
            return kept.description
    made = asked(offer.modules)
    with suppress(OSError):  # a folder that can't be written to costs time only
        data = json.dumps(Kept(of=of, around=around, time=time.time(), description=made).model_dump())
        write(path, data.encode())
    return made


def _around() -> str:
    """Where packages are found, and when something was last installed there, or removed."""
    stamps = []
    for folder in sys.path:
        with suppress(OSError):
            stamps.append(f"{folder}\0{Path(folder).stat().st_mtime_ns}")
    return _digest("\n".join(stamps))


def _digest(text: str) -> str:
    return sha256(text.encode(errors="surrogateescape")).hexdigest()
