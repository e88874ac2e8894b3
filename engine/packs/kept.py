"""Descriptions of packs on disk, so that each pack is imported once and not every time that kinds are listed.

`packs/<name>-<digest of the environment's folder>.json` in Kinograph's folder holds one, with everything that it
depends on: the pack's name, version, modules and state, and the versions of Kinograph and Python. A description that
only says why a pack can't be imported also depends on what else is installed, and expires.
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
"""After which a pack that couldn't be imported is tried again."""


class Kept(BaseModel):
    """The content of a file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    of: str
    """Everything that the description depends on."""
    around: str
    """A digest of where packages are installed, and of when that last changed."""
    time: float
    """When it was written, in seconds since 1970."""
    description: Description


def description_of(offer: Offer, asked: Callable[[Sequence[str]], Description] = ask) -> Description:
    """A pack's description, from disk if it is still valid, else newly made and written to disk."""
    path = home() / "packs" / f"{canonical(offer.pack.name)}-{_digest(sys.prefix)[:8]}.json"
    of = json.dumps([offer.pack.name, offer.pack.version, offer.pack.state, *offer.modules, made_with()])
    around = _around()
    with suppress(OSError, ValidationError):
        kept = Kept.model_validate_json(path.read_bytes())
        is_fresh = kept.around == around and 0 <= time.time() - kept.time < FORGET_SECONDS
        if kept.of == of and (kept.description.problem is None or is_fresh):
            return kept.description
    made = asked(offer.modules)
    with suppress(OSError):  # a folder that can't be written to only costs time
        data = json.dumps(Kept(of=of, around=around, time=time.time(), description=made).model_dump())
        write(path, data.encode())
    return made


def _around() -> str:
    """A digest of the folders on the path and of when something was last installed or removed there."""
    stamps = []
    for folder in sys.path:
        with suppress(OSError):
            stamps.append(f"{folder}\0{Path(folder).stat().st_mtime_ns}")
    return _digest("\n".join(stamps))


def _digest(text: str) -> str:
    return sha256(text.encode(errors="surrogateescape")).hexdigest()
