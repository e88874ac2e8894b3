"""The workflows that come with Kinograph."""

from __future__ import annotations

from pathlib import Path

SHIPPED = Path(__file__).resolve().parents[2] / "workflows"


def shipped() -> dict[str, Path]:
    """The workflows that come with Kinograph, by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.json"))}


def shipped_media(name: str) -> list[Path]:
    """The files beside these workflows that one of them reads."""
    text = shipped()[name].read_text(encoding="utf-8")
    return sorted(path for path in SHIPPED.glob("*.png") if f'"{path.name}"' in text)
