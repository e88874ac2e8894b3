"""The registry of all kinds of node: those that come with Kinograph, those of packs, and those of files."""

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
"""Packs that are described in parallel."""


def registry(files: Iterable[Path] = ()) -> Registry:
    """All kinds of node that come with Kinograph, that installed packs offer, and that Python files define.

    Nothing heavy is imported until a node runs; the kinds of packs are stand-ins. A pack that can't be used, or that
    has a kind whose name is taken, is left out; the registry's `packs` say why.

    Raises:
        KinographError: Kinograph is not installed, so its own kinds can't be found.
        MissingError: a file doesn't exist.
        UsageError: a file can't be read or run, or defines a kind whose name is taken.
    """
    if os.environ.get(DESCRIBING):
        raise KinographError("a pack can't ask for the kinds of node while it is imported")
    found = offers()
    own = [offer for offer in found if offer.pack.name == OWN]
    if not own or own[0].problem:
        raise KinographError(
            "Kinograph's installation doesn't list its own nodes: it is missing or out of date",
            hint="reinstall it, in its folder: pip install -e .",
        )
    shipped = Registry.of_modules(*map(import_module, own[0].modules))
    added = Registry.of_modules(*map(load_file, files))
    kinds, packs = _of_packs(shipped, [offer for offer in found if offer is not own[0]])
    return Registry([*shipped.values(), *kinds, *added.values()], packs)


def _of_packs(shipped: Registry, found: Sequence[Offer]) -> tuple[list[type[Node]], list[Offer]]:
    """Stand-ins for the kinds of packs, and the packs with their kinds and problems."""
    waiting = [offer for offer in found if offer.problem is None]
    with ThreadPoolExecutor(AT_ONCE, "kinograph-packs") as threads:
        described = dict(zip(waiting, threads.map(description_of, waiting), strict=True))
    taken, decoder, packs = dict(shipped), Decoder(), list[Offer]()
    for offer in found:
        if (about := described.get(offer)) is None:
            packs.append(offer)
            continue
        offer = replace(offer, kinds=tuple(kind.kind for kind in about.kinds), problem=about.problem)
        if offer.problem is None:
            try:
                made = {kind.kind: stand_in(kind, about.classes, offer.pack, decoder) for kind in about.kinds}
            except (ValueError, LookupError, TypeError) as error:
                offer = replace(offer, problem=f"has a kind that can't be reconstructed: {error}")
            else:
                offer = replace(offer, problem=_clash(made, taken))
                taken |= {} if offer.problem else made
        packs.append(offer)
    return [kind for name, kind in taken.items() if name not in shipped], packs


def _clash(made: Iterable[str], taken: dict[str, type[Node]]) -> str | None:
    """Why a pack with these kinds can't be used, given the kinds that exist already."""
    if not made:
        return "defines no kinds of node in its modules"
    twice = next((name for name in made if name in taken), None)
    return f"defines {twice}, which {origin(taken[twice])} defines already" if twice else None
