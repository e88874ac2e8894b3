"""The workflows that come with Kinograph."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

SHIPPED = Path(__file__).resolve().parents[2] / "workflows"


def shipped() -> dict[str, Path]:
    """The workflows that come with Kinograph, by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.json"))}


def shipped_media(name: str) -> dict[str, Path]:
    """The files beside these workflows that one of them reads, by their paths there: pictures, and those in folders."""
    text = shipped()[name].read_text(encoding="utf-8")
    files = sorted(path for path in SHIPPED.rglob("*") if path.suffix in (".png", ".txt"))
    by_path = {path.relative_to(SHIPPED).as_posix(): path for path in files}
    return {
        place: path for place, path in by_path.items() if any(f'"{part}"' in text for part in (place, *_above(place)))
    }


def _above(place: str) -> tuple[str, ...]:
    """The folders that a path lies in."""
    return tuple(str(folder) for folder in PurePosixPath(place).parents if folder.name)
