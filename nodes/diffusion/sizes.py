"""Sizes of pictures and videos in pixels: those that a model takes, and those that suit a picture."""

from __future__ import annotations

from math import sqrt

from engine.errors import InputError


def check_size(width: int, height: int, unit: int, *, input: str = "width") -> None:
    """Raise InputError, with a size that does, unless width and height are multiples of `unit`."""
    if width % unit or height % unit:
        raise InputError(
            f"{width} × {height} pixels don't suit the model: it needs multiples of {unit}",
            input=input,
            hint=f"set width and height, to {_near(width, unit)} × {_near(height, unit)} for example",
        )


def chosen_size(
    width: int | None, height: int | None, own: tuple[int, int], unit: int, picture: tuple[int, int] | None = None
) -> tuple[int, int]:
    """Width and height: what was asked for, or else what suits the model.

    Without a picture that is the model's own size. With one it is the area of that in the proportions of the picture,
    or the side that goes in these proportions with the one that was asked for; to the nearest multiples of `unit`.

    Args:
        own: the model's own width and height.
        picture: width and height of a picture that is to be continued.
    """
    if picture is None or (width and height):
        return width or own[0], height or own[1]
    aspect = picture[0] / picture[1]
    if width or height:
        return width or _near((height or 0) * aspect, unit), height or _near((width or 0) / aspect, unit)
    area = own[0] * own[1]
    return _near(sqrt(area * aspect), unit), _near(sqrt(area / aspect), unit)


def _near(side: float, unit: int) -> int:
    """The nearest multiple of `unit`, at least one of it."""
    return max(1, round(side / unit)) * unit
