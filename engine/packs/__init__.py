"""Node packs: the kinds of node that other distributions offer, and how they come into the registry.

    entry points → offers → a child process describes each, once → descriptions on disk → stand-ins → registry

A pack's own code is never imported to list its kinds, to check a workflow or to serve: what it does when it is imported
(loading torch, crashing, hanging) is done in the child. Who runs a workflow imports the packs that it uses
(`Registry.imported`).

    offers       which distributions offer kinds, by their entry points
    annotations  the types of inputs and outputs as JSON data, and back
    description  a kind as JSON data
    describe     the child process
    asking       starts the child, and bears with whatever it does
    kept         descriptions on disk
    standin      node classes made of descriptions
    gathering    all together
"""

from engine.packs.gathering import registry

__all__ = ["registry"]
