"""Looking into pictures and videos that anyone may have sent, in a few threads of their own.

Only named formats are tried: among those that Pillow and FFmpeg could guess are some that run a program, or open other
files and addresses.
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
"""What reads a video, by its name's ending."""

MAX_PIXELS = 64 * 1024 * 1024
"""A small file can unpack to any size: beyond this it is refused before it does."""

MOST_PACKETS = 500
"""Of a video, that are decoded until there is a picture."""

_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
_POOL = ThreadPoolExecutor(2, thread_name_prefix="kinograph-pictures")  # each may need a few hundred megabytes

T = TypeVar("T")


async def apart(function: Callable[..., T], *args: object) -> T:
    """Call one of the functions below in a thread, when one is free."""
    return await asyncio.get_running_loop().run_in_executor(_POOL, function, *args)


def check(path: Path, suffix: str) -> None:
    """Raise UsageError unless a file is a sound picture or video, as the ending of its name says."""
    if suffix in PICTURES:
        with picture(path) as image:
            image.load()
    elif suffix in VIDEOS:
        first_frame(path, suffix)
    else:
        endings = " ".join(sorted([*PICTURES, *VIDEOS]))
        raise UsageError(f"files that end in '{suffix}' are not taken", hint=f"pictures and videos are: {endings}")


@contextmanager
def picture(path: Path) -> Iterator[Image.Image]:
    """The picture in a file, with its pixels still to be read; raises UsageError where it is none, or too large."""
    from PIL import Image

    with _reading("a picture"), Image.open(path, formats=_FORMATS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise UsageError(f"a picture of {image.width} × {image.height} is too large", hint="scale it down first")
        yield image


def first_frame(path: Path, suffix: str, side: int | None = None) -> Image.Image:
    """The first frame of a video, shrunk to at most `side`; raises UsageError where there is none, or it is too large.

    The file is handed over as a stream, so that nothing in it can name another file.
    """
    import av

    with _reading("a video"), path.open("rb") as file, av.open(file, "r", format=VIDEOS[suffix]) as container:
        if not container.streams.video:
            raise UsageError("there are no pictures in this video")
        stream = container.streams.video[0]
        width, height = stream.width, stream.height
        if not 0 < width * height <= MAX_PIXELS:
            raise UsageError(f"a video of {width} × {height} can't be used", hint="scale it first")
        stream.thread_count = 1
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}  # frames may be larger than the container says
        packets = islice(container.demux(stream), MOST_PACKETS)
        frame = next((frame for packet in packets for frame in packet.decode()), None)
        if frame is None:
            raise UsageError("no picture comes of this video")
        scale = min(1.0, side / max(width, height)) if side else 1.0
        sides = {"width": max(1, round(width * scale)), "height": max(1, round(height * scale))}
        image: Image.Image = frame.to_image(**sides)  # type: ignore[no-untyped-call]
        return image


def encoded(path: Path, format: Literal["webp", "jpeg"], quality: int) -> bytes:
    """A picture to look at, upright."""
    from PIL import ImageOps

    with picture(path) as image:
        shown = ImageOps.exif_transpose(image)
        return _bytes(_flat(shown) if format == "jpeg" else shown.convert("RGBA"), format, quality=quality)


def channel(path: Path, name: Literal["rgb", "a"]) -> bytes:
    """A picture's colours alone, or its opacity alone (as that of a black picture), as a PNG."""
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
    """Write a picture as PNG with another's opacity, and with the texts that it carries."""
    from PIL.PngImagePlugin import PngInfo

    with picture(original) as image:
        texts = PngInfo()
        for name, text in image.info.items():
            if isinstance(name, str) and isinstance(text, str):
                texts.add_itxt(name, text)
        whole = image.convert("RGBA")
    with picture(mask) as image:
        if image.size != whole.size:
            raise UsageError(f"the mask is {image.width} × {image.height}, the picture {whole.width} × {whole.height}")
        whole.putalpha(image.convert("RGBA").getchannel("A"))
    whole.save(target, format="PNG", pnginfo=texts)


def _flat(image: Image.Image) -> Image.Image:
    """The colours alone, transparent parts laid on black."""
    from PIL import Image

    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "black"), rgba).convert("RGB")


def _bytes(image: Image.Image, format: str, **how: int) -> bytes:
    file = io.BytesIO()
    image.save(file, format=format, **how)
    return file.getvalue()


@contextmanager
def _reading(what: str) -> Iterator[None]:
    """Around what reads a file that may hold anything: however a library takes it, it comes to a UsageError."""
    try:
        yield
    except KinographError:
        raise
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise UsageError(f"this is not {what}, or it is damaged: {reason.splitlines()[0][:200]}") from error
