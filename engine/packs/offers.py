"""Which distributions offer kinds of node: those with entry points in the group `kinograph.nodes`.

    [project.entry-points."kinograph.nodes"]
    blur = "blur_pack.nodes"

names a module whose node classes are the kinds. Of distributions without this group nothing but their groups is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from importlib.util import find_spec
from pathlib import Path

from engine.node import Pack
from engine.registry import Offer, reason

GROUP = "kinograph.nodes"
OWN = "kinograph"
"""The distribution whose kinds come with Kinograph: it is no pack."""


FILE = "entry_points.txt"


def offers() -> list[Offer]:
    """What distributions offer, ordered by their names, Kinograph itself included."""
    found = (_offer(name, each) for name, each in sorted(_offering().items()))
    return [offer for offer in found if offer is not None]


def canonical(name: str) -> str:
    """A distribution's name as all its spellings are compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _offering() -> dict[str, Distribution]:
    """The distributions that have the group, by name; of several with one name the first on the path counts."""
    found: dict[str, Distribution] = {}
    for each in distributions():
        with suppress(UnicodeDecodeError):
            if f"[{GROUP}]" in (each.read_text(FILE) or ""):
                name = canonical(each.name or "without a name")
                try:
                    found[name] = distribution(name)
                except PackageNotFoundError:  # its folder is called otherwise
                    found.setdefault(name, each)
    return found


def _offer(name: str, found: Distribution) -> Offer | None:
    try:
        entries = sorted(found.entry_points.select(group=GROUP), key=lambda entry: entry.name)
        modules = tuple(dict.fromkeys(entry.value for entry in entries))
        pack = Pack(found.name or name, found.version or "without a version", _state(found, modules))
    except (LookupError, TypeError, ValueError) as error:
        return Offer(Pack(name, ""), (), problem=f"has metadata that can't be read: {reason(error)}")
    odd = next((name for name in modules if not all(part.isidentifier() for part in name.split("."))), None)
    problem = f"names '{odd}' under {GROUP}, where a module is to be named" if odd else None
    return Offer(pack, modules, problem=problem) if modules else None


def _state(found: Distribution, modules: tuple[str, ...]) -> str:
    """A digest of the sources of what was installed from a folder or an address: these change, the version doesn't."""
    origin = found.read_text("direct_url.json")
    if origin is None:
        return ""
    total = sha256(origin.encode())
    for path in sorted(_sources({module.partition(".")[0] for module in modules})):
        with suppress(OSError):  # gone since it was listed
            state = path.stat()
            total.update(f"{path}\0{state.st_size} {state.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return total.hexdigest()[:16]


def _sources(packages: set[str]) -> Iterator[Path]:
    """The Python files of these packages, which are found but not imported."""
    for name in packages:
        spec = None
        with suppress(ImportError, ValueError):
            spec = find_spec(name)
        if spec and spec.submodule_search_locations is not None:
            for folder in spec.submodule_search_locations:
                yield from Path(folder).rglob("*.py")
        elif spec and spec.origin:
            yield Path(spec.origin)
