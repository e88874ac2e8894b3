"""The installed packs, and what is wrong with those that can't be used."""

from __future__ import annotations

from aiohttp import web

from engine.server.http.routes import OWN, Answer, Routes
from engine.server.http.settings import REGISTRY

routes = Routes("nodes")


class Pack(Answer):
    """A pack that is installed."""

    name: str
    version: str
    kinds: list[str]
    """Its kinds of node, if they are known; none of them can be used if there is a problem."""
    problem: str | None
    """Why it can't be used."""


class Packs(Answer):
    packs: list[Pack]


@routes.get(f"{OWN}/packs")
async def packs(request: web.Request) -> Packs:
    """List the packs that were installed when the server started."""
    return Packs(
        packs=[
            Pack(name=offer.pack.name, version=offer.pack.version, kinds=list(offer.kinds), problem=offer.problem)
            for offer in request.app[REGISTRY].packs
        ]
    )
