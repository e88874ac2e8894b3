"""All kinds of node that there are: those that come with Kinograph, those of files, those of packs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from engine.errors import KinographError
from engine.node import Node
from engine.packs.annotations import Decoder
from engine.packs.asking import DESCRIBING
from engine.packs.kept import description_of
from engine.packs.offers import OWN, offers
from engine.packs.standin import stand_in
from engine.registry import Offer, Registry, load_file, origin

AT_ONCE = 4
"""Packs that are described side by side."""


def registry(files: Iterable[Path] = ()) -> Registry:
    """All kinds of node that come with Kinograph, that installed packs offer, and that Python files define.

    Nothing heavy is imported until one of them runs; kinds of packs are stand-ins. A pack that can't be used, or that
    has a kind which is there already, is left out, and told of in the registry's `packs`.

    Raises:
        KinographError: Kinograph is not installed, so its own kinds can't be found.
        MissingError: there is no such file.
        UsageError: a file can't be read or run, or has a kind which is there already.
    """
    if os.environ.get(DESCRIBING):
        raise KinographError("a pack can't ask for the kinds of node while it is imported")
    found = offers()
    own = [offer for offer in found if offer.pack.name == OWN]
    if not own or own[0].problem:
        raise KinographError(
            "Kinograph's own nodes are found by what its installation says, and it doesn't say any",
            hint="install it anew, from its folder: pip install -e .",
        )
    shipped = Registry.of_modules(*map(import_module, own[0].modules))
    added = Registry.of_modules(*map(load_file, files))
    kinds, packs = _of_packs(shipped, [offer for offer in found if offer is not own[0]])
    return Registry([*shipped.values(), *kinds, *added.values()], packs)


def _of_packs(shipped: Registry, found: Sequence[Offer]) -> tuple[list[type[Node]], list[Offer]]:
    """Stand-ins for what packs offer, and what has come of each pack."""
    waiting = [offer for offer in found if offer.problem is None]
    with ThreadPoolExecutor(AT_ONCE, "kinograph-packs") as threads:
        told = dict(zip(waiting, threads.map(description_of, waiting), strict=True))
    taken, decoder, packs = dict(shipped), Decoder(), list[Offer]()
    for offer in found:
        if (about := told.get(offer)) is None:
            packs.append(offer)
            continue
        offer = replace(offer, kinds=tuple(kind.kind for kind in about.kinds), problem=about.problem)
        if offer.problem is None:
            try:
                made = {kind.kind: stand_in(kind, about.classes, offer.pack, decoder) for kind in about.kinds}
            except (ValueError, LookupError, TypeError) as error:
                offer = replace(offer, problem=f"has a kind that can't be told of: {error}")
            else:
                offer = replace(offer, problem=_clash(made, taken))
                taken |= {} if offer.problem else made
        packs.append(offer)
    return [kind for name, kind in taken.items() if name not in shipped], packs


def _clash(made: Iterable[str], taken: dict[str, type[Node]]) -> str | None:
    """What speaks against these kinds, for those that are there already."""
    if not made:
        return "defines no kind of node in the modules that it names"
    twice = next((name for name in made if name in taken), None)
    return f"has a kind {twice}, as {origin(taken[twice])} has" if twice else None
