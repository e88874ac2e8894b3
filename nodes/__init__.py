"""The nodes that come with Kinograph, a package per field.

Each package's `nodes` module is named in `pyproject.toml` among the entry points of the group `kinograph.nodes`, as
those of packs are (`engine.packs`); `registry` gathers all.
"""

from engine.packs import registry

__all__ = ["registry"]
