"""Node packs: other distributions that offer kinds of node, and how these get into the registry.

    entry points → offers → a child process describes each pack, once → descriptions on disk → stand-ins → registry

Listing kinds, checking a workflow and serving never import a pack's code: loading torch, crashing or hanging on import
only happens in the child process. A run imports the packs that its workflow uses (`Registry.imported`).

    offers       the distributions that offer kinds, found by their entry points
    annotations  the types of inputs and outputs as JSON data, and back
    description  a kind as JSON data
    describe     the child process
    asking       starts the child process, and survives whatever it does
    kept         descriptions on disk
    standin      node classes built from descriptions
    gathering    the registry of all kinds
"""

from engine.packs.gathering import registry

__all__ = ["registry"]
