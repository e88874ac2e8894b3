"""What flows between this pack's nodes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from kinograph import Value


@dataclass(frozen=True, eq=False, slots=True)
class Palette(Value):
    """Colours, each red, green and blue in [0, 1]."""

    framework: ClassVar[Literal["pt", "np"]] = "np"

    colours: tuple[tuple[float, float, float], ...]

    @property
    def nbytes(self) -> int:
        return 24 * len(self.colours)

    def to_tensors(self) -> tuple[Mapping[str, Any], dict[str, str]]:
        return {}, {"colours": json.dumps(self.colours)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Any], metadata: Mapping[str, str]) -> Self:
        return cls(tuple((red, green, blue) for red, green, blue in json.loads(metadata["colours"])))
