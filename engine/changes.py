"""What has become of the inputs that a kind of node had in earlier versions, so that old workflows still load.

    class Blur(Node, version=3, renamed={"picture": "images"}, removed={"edges": "they are always mirrored"},
               replaced={"percent": "share"}):

        share: float = 0.1

        @classmethod
        def replacing(cls, old: Mapping[str, Any]) -> Mapping[str, Any]:
            return {"share": old["percent"] / 100}

An old workflow is recognised by the old names in it, and by nothing else: workflows from other programs, and those that
people write by hand, don't state the version that they were made for. So an input's name never changes its meaning; an
input with a new meaning gets a new name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Changes:
    """What has become of former inputs, by their former names."""

    renamed: Mapping[str, str] = field(default_factory=dict)
    """Their present names."""
    removed: Mapping[str, str] = field(default_factory=dict)
    """Why they no longer exist, or what to do instead; values that a workflow gives them are ignored."""
    replaced: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The inputs that take their place, after a conversion of the value (`Node.replacing`)."""

    def __bool__(self) -> bool:
        return bool(self.renamed or self.removed or self.replaced)

    @property
    def names(self) -> set[str]:
        """All former names."""
        return {*self.renamed, *self.removed, *self.replaced}

    def today(self, name: str) -> str:
        """The present name of an input, given that or a former one."""
        return self.renamed.get(name, name)

    def hint(self, name: str) -> str | None:
        """What to do about a former name."""
        if reason := self.removed.get(name):
            return reason
        if new := self.renamed.get(name):
            return f"renamed to {new}"
        return f"replaced by {' and '.join(self.replaced[name])}" if name in self.replaced else None

    def check(self, kind: str, inputs: Collection[str], *, converts: bool) -> None:
        """Raise TypeError unless former names are no longer inputs, and lead to existing ones."""
        tables = (self.renamed, self.removed, self.replaced)
        if sum(map(len, tables)) > len(self.names):
            raise TypeError(f"{kind} lists a former input twice")
        if kept := sorted(self.names & {*inputs}):
            raise TypeError(f"{kind} still has the input {kept[0]}: an input with a new meaning needs a new name")
        targets = {*self.renamed.values()}.union(*self.replaced.values())
        if missing := sorted(targets - {*inputs}):
            raise TypeError(f"{kind} has no input {missing[0]} to take the place of a former one")
        if self.replaced and not converts:
            raise TypeError(f"{kind} replaces inputs but has no method `replacing` to convert their values")
