"""The distributions that offer kinds of node: those with entry points in the group `kinograph.nodes`.

    [project.entry-points."kinograph.nodes"]
    blur = "blur_pack.nodes"

names a module whose node classes are the kinds. Of all other distributions only `entry_points.txt` is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from importlib.util import find_spec
from pathlib import Path

from engine.registry import Offer, reason
from engine.spec import Pack

GROUP = "kinograph.nodes"
OWN = "kinograph"
"""The distribution of the kinds that come with Kinograph, which is not a pack."""
FILE = "entry_points.txt"


def offers() -> list[Offer]:
    """All offers, Kinograph's own included, in the order of the distributions' names."""
    found = (_offer(name, each) for name, each in sorted(_offering().items()))
    return [offer for offer in found if offer is not None]


def canonical(name: str) -> str:
    """The normal form of a distribution's name: spellings that differ in case and separators are equal."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _offering() -> dict[str, Distribution]:
    """The distributions that have the group, by name; of several with the same name, the first on the path."""
    found: dict[str, Distribution] = {}
    for each in distributions():
        with suppress(UnicodeDecodeError):
            if f"[{GROUP}]" in (each.read_text(FILE) or ""):
                name = canonical(each.name or "without a name")
                try:
                    found[name] = distribution(name)
                except PackageNotFoundError:  # the folder has another name than the metadata
                    found.setdefault(name, each)
    return found


def _offer(name: str, found: Distribution) -> Offer | None:
    try:
        entries = sorted(found.entry_points.select(group=GROUP), key=lambda entry: entry.name)
        modules = tuple(dict.fromkeys(entry.value for entry in entries))
        pack = Pack(found.name or name, found.version or "without a version", _state(found, modules))
    except (LookupError, TypeError, ValueError) as error:
        return Offer(Pack(name, ""), (), problem=f"has unreadable metadata: {reason(error)}")
    odd = next((name for name in modules if not all(part.isidentifier() for part in name.split("."))), None)
    problem = f"has '{odd}' under {GROUP}, which is not the name of a module" if odd else None
    return Offer(pack, modules, problem=problem) if modules else None


def _state(found: Distribution, modules: tuple[str, ...]) -> str:
    """A digest of the sources of a distribution installed from a folder or a URL, which change under one version."""
    origin = found.read_text("direct_url.json")
    if origin is None:
        return ""
    total = sha256(origin.encode())
    for path in sorted(_sources({module.partition(".")[0] for module in modules})):
        with suppress(OSError):  # removed since it was listed
            state = path.stat()
            total.update(f"{path}\0{state.st_size} {state.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return total.hexdigest()[:16]


def _sources(packages: set[str]) -> Iterator[Path]:
    """The Python files of these packages, found without importing them."""
    for name in packages:
        spec = None
        with suppress(ImportError, ValueError):
            spec = find_spec(name)
        if spec and spec.submodule_search_locations is not None:
            for folder in spec.submodule_search_locations:
                yield from Path(folder).rglob("*.py")
        elif spec and spec.origin:
            yield Path(spec.origin)
