"""How the inputs of a kind of node were called in earlier versions, so that old workflows still load.

    class Blur(Node, version=3, renamed={"picture": "images"}, removed={"edges": "they are always mirrored"},
               replaced={"percent": "share"}):

        share: float = 0.1

        @classmethod
        def replacing(cls, old: Mapping[str, Any]) -> Mapping[str, Any]:
            return {"share": old["percent"] / 100}

A workflow is known to be old by the names in it, and by nothing else: workflows of other programs, and those that
people write, don't say for which version they are. So an input's name keeps its meaning for ever; what is to mean
something else gets another name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Changes:
    """What became of the inputs that there were once, by their names."""

    renamed: Mapping[str, str] = field(default_factory=dict)
    """What they are called today."""
    removed: Mapping[str, str] = field(default_factory=dict)
    """Why they are not needed any more, or what to do instead; what a workflow gives them is left out."""
    replaced: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The inputs that came in their place, for which a constant has to be converted (`Node.replacing`)."""

    def __bool__(self) -> bool:
        return bool(self.renamed or self.removed or self.replaced)

    @property
    def names(self) -> set[str]:
        """All names that there were once."""
        return {*self.renamed, *self.removed, *self.replaced}

    def today(self, name: str) -> str:
        """What an input is called now."""
        return self.renamed.get(name, name)

    def hint(self, name: str) -> str | None:
        """What to say of an old name that can't be followed."""
        if reason := self.removed.get(name):
            return reason
        if new := self.renamed.get(name):
            return f"it is called {new} now"
        return f"{' and '.join(self.replaced[name])} came in its place" if name in self.replaced else None

    def check(self, kind: str, inputs: Collection[str], *, converts: bool) -> None:
        """See that old names are old, and lead to inputs that there are; raises TypeError."""
        tables = (self.renamed, self.removed, self.replaced)
        if sum(map(len, tables)) > len(self.names):
            raise TypeError(f"{kind} says twice what became of an input")
        if kept := sorted(self.names & {*inputs}):
            raise TypeError(f"{kind} still has the input {kept[0]}: what is to mean something else needs another name")
        led = {*self.renamed.values()}.union(*self.replaced.values())
        if missing := sorted(led - {*inputs}):
            raise TypeError(f"{kind} has no input {missing[0]} that an old one could lead to")
        if self.replaced and not converts:
            raise TypeError(f"{kind} replaces inputs, and needs a method `replacing` that converts them")
