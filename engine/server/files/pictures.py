"""Decodes pictures and videos from untrusted sources, in a small thread pool.

Only named formats are tried: some of those that Pillow and FFmpeg would guess run a program, or open other files and
addresses.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from engine.errors import KinographError, UsageError

if TYPE_CHECKING:
    from PIL import Image

PICTURES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"))
VIDEOS: Mapping[str, str] = {
    **dict.fromkeys((".mp4", ".m4v", ".mov"), "mp4"),
    **dict.fromkeys((".webm", ".mkv"), "matroska"),
    ".avi": "avi",
}
"""FFmpeg's name of a video's format, by file name ending."""

MAX_PIXELS = 64 * 1024 * 1024
"""A small file can unpack to any size; a larger picture is refused before it is decoded."""

MOST_PACKETS = 500
"""Packets of a video that are decoded to get its first frame."""

_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
_POOL = ThreadPoolExecutor(2, thread_name_prefix="kinograph-pictures")  # each may need a few hundred megabytes

T = TypeVar("T")


async def in_thread(function: Callable[..., T], *args: object) -> T:
    """Call one of the functions below in the pool."""
    return await asyncio.get_running_loop().run_in_executor(_POOL, function, *args)


def check(path: Path, suffix: str) -> None:
    """Raise UsageError unless a file is a valid picture or video, as the ending of its name says."""
    if suffix in PICTURES:
        with picture(path) as image:
            image.load()
    elif suffix in VIDEOS:
        first_frame(path, suffix)
    else:
        endings = " ".join(sorted([*PICTURES, *VIDEOS]))
        raise UsageError(f"files that end in '{suffix}' are not accepted", hint=f"accepted endings are {endings}")


@contextmanager
def picture(path: Path) -> Iterator[Image.Image]:
    """The picture in a file, its pixels not yet decoded; raises UsageError if it isn't one, or is too large."""
    from PIL import Image

    with _reading("a picture"), Image.open(path, formats=_FORMATS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise UsageError(f"a picture of {image.width} × {image.height} is too large", hint="scale it down first")
        yield image


def first_frame(path: Path, suffix: str, side: int | None = None) -> Image.Image:
    """The first frame of a video, scaled down to at most `side` pixels; raises UsageError if none, or too large.

    The file is passed as a stream, so that nothing in it can name another file.
    """
    import av

    with _reading("a video"), path.open("rb") as file, av.open(file, "r", format=VIDEOS[suffix]) as container:
        if not container.streams.video:
            raise UsageError("this video has no picture stream")
        stream = container.streams.video[0]
        width, height = stream.width, stream.height
        if not 0 < width * height <= MAX_PIXELS:
            raise UsageError(f"a video of {width} × {height} can't be used", hint="rescale it first")
        stream.thread_count = 1
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}  # frames may be larger than the container says
        packets = islice(container.demux(stream), MOST_PACKETS)
        frame = next((frame for packet in packets for frame in packet.decode()), None)
        if frame is None:
            raise UsageError("no frame of this video can be decoded")
        scale = min(1.0, side / max(width, height)) if side else 1.0
        sides = {"width": max(1, round(width * scale)), "height": max(1, round(height * scale))}
        image: Image.Image = frame.to_image(**sides)  # type: ignore[no-untyped-call]
        return image


def encoded(path: Path, format: Literal["webp", "jpeg"], quality: int) -> bytes:
    """A picture for display, upright, in another format."""
    from PIL import ImageOps

    with picture(path) as image:
        shown = ImageOps.exif_transpose(image)
        return _bytes(_flat(shown) if format == "jpeg" else shown.convert("RGBA"), format, quality=quality)


def channel(path: Path, name: Literal["rgb", "a"]) -> bytes:
    """A picture's colours alone, or its opacity alone (on black), as a PNG."""
    from PIL import Image

    with picture(path) as image:
        rgba = image.convert("RGBA")
    if name == "rgb":
        return _bytes(rgba.convert("RGB"), "png")
    opacity = Image.new("RGBA", rgba.size)
    opacity.putalpha(rgba.getchannel("A"))
    return _bytes(opacity, "png")


def thumbnail(path: Path, side: int) -> bytes:
    """A small JPEG of a picture, or of a video's first frame, within a square of `side` pixels."""
    from PIL import ImageOps

    suffix = path.suffix.lower()
    if suffix in VIDEOS:
        return _bytes(first_frame(path, suffix, side), "jpeg", quality=85)
    with picture(path) as image:
        image.draft("RGB", (side * 2, side * 2))
        shown = _flat(ImageOps.exif_transpose(image))
    shown.thumbnail((side, side))
    return _bytes(shown, "jpeg", quality=85)


def masked(original: Path, mask: Path, target: Path) -> None:
    """Write a picture as PNG with the opacity of another one, keeping its text chunks."""
    from PIL.PngImagePlugin import PngInfo

    with picture(original) as image:
        texts = PngInfo()
        for name, text in image.info.items():
            if isinstance(name, str) and isinstance(text, str):
                texts.add_itxt(name, text)
        rgba = image.convert("RGBA")
    with picture(mask) as image:
        if image.size != rgba.size:
            sizes = f"the mask is {image.width} × {image.height}, the picture {rgba.width} × {rgba.height}"
            raise UsageError(sizes, hint="send a mask of the picture's size")
        rgba.putalpha(image.convert("RGBA").getchannel("A"))
    rgba.save(target, format="PNG", pnginfo=texts)


def _flat(image: Image.Image) -> Image.Image:
    """The picture as RGB, transparent parts on black."""
    from PIL import Image

    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "black"), rgba).convert("RGB")


def _bytes(image: Image.Image, format: str, **options: int) -> bytes:
    file = io.BytesIO()
    image.save(file, format=format, **options)
    return file.getvalue()


@contextmanager
def _reading(what: str) -> Iterator[None]:
    """Turn whatever a library raises on an arbitrary file into a UsageError."""
    try:
        yield
    except KinographError:
        raise
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise UsageError(f"this is not {what}, or it is damaged: {reason.splitlines()[0][:200]}") from error
