"""Decodes pictures and videos from untrusted sources; `decoder` does it in a process of its own.

Only named formats are tried: some of those that Pillow and FFmpeg would guess run a program, or open other files and
addresses.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from engine import filetypes
from engine.errors import KinographError, UsageError
from engine.server.files.texts import TEXTS

if TYPE_CHECKING:
    from PIL import Image

PICTURES = frozenset((".png", ".apng", ".jpg", ".jpeg", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"))
VIDEOS = filetypes.VIDEO_NAMES
"""File name endings. Of which type a file is, its contents decide."""
FILMS = VIDEOS | {".gif", ".webp", ".apng", ".avif"}
"""Endings of what may be a video: animations too."""

MOST_PACKETS = 500
"""Packets of a video that are decoded to get its first frame."""

_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
_ANIMATIONS = (
    filetypes.ANIMATED_GIF,
    filetypes.ANIMATED_PNG,
    filetypes.ANIMATED_WEBP,
    filetypes.ANIMATED_AVIF,
)
"""Types that are pictures too."""
_SCALABLE = ("L", "RGB", "RGBA", "CMYK", "YCbCr")
"""Modes of pictures that can be scaled down before they are converted, which saves memory."""
CHECKED_SIDE = 16
"""Pixels to which the first frame is scaled that proves a video."""


@dataclass(frozen=True)
class Pictures:
    """Reads pictures and videos of limited size; all methods raise UsageError for a file that is neither.

    Those with a `target` write a new file there.
    """

    most_pixels: int
    """A small file can unpack to any size; a larger picture is refused before it is decoded."""

    def check(self, path: Path, suffix: str) -> None:
        """Raise UsageError unless a file is a valid picture or video, whichever of them its name says."""
        if suffix in PICTURES:
            with self._picture(path) as image:
                image.load()
        elif suffix in VIDEOS:
            self._first_frame(path, CHECKED_SIDE)
        else:
            endings = " ".join(sorted([*PICTURES, *VIDEOS, *TEXTS]))
            raise UsageError(f"files that end in '{suffix}' are not accepted", hint=f"accepted endings are {endings}")

    def encode(self, path: Path, target: Path, format: Literal["webp", "jpeg"], quality: int) -> None:
        """A picture for display, upright, in another format."""
        shown = self._upright(path)
        shown = _flat(shown) if format == "jpeg" else shown.convert("RGBA")
        shown.save(target, format=format, quality=quality)

    def channel(self, path: Path, target: Path, name: Literal["rgb", "a"]) -> None:
        """A picture's colours alone, or its opacity alone (on black), as a PNG."""
        from PIL import Image

        with self._picture(path) as image:
            rgba = image.convert("RGBA")
        if name == "rgb":
            rgba.convert("RGB").save(target, format="PNG")
        else:
            opacity = Image.new("RGBA", rgba.size)
            opacity.putalpha(rgba.getchannel("A"))
            opacity.save(target, format="PNG")

    def thumbnail(self, path: Path, target: Path, side: int) -> None:
        """A small JPEG of a picture, or of a video's first frame, within a square of `side` pixels."""
        found = filetypes.of(path)
        is_film = found is not None and found.group == "video" and found not in _ANIMATIONS
        small = self._first_frame(path, side) if is_film else _flat(self._upright(path, side))
        small.save(target, format="JPEG", quality=85)

    def mask(self, original: Path, mask: Path, target: Path) -> None:
        """A picture as PNG with the opacity of another one, and its own text chunks."""
        from PIL.PngImagePlugin import PngInfo

        with self._picture(original) as image:
            texts = PngInfo()
            for name, text in image.info.items():
                if isinstance(name, str) and isinstance(text, str):
                    texts.add_itxt(name, text)
            rgba = image.convert("RGBA")
        with self._picture(mask) as image:
            if image.size != rgba.size:
                sizes = f"the mask is {image.width} × {image.height}, the picture {rgba.width} × {rgba.height}"
                raise UsageError(sizes, hint="send a mask of the picture's size")
            rgba.putalpha(image.convert("RGBA").getchannel("A"))
        rgba.save(target, format="PNG", pnginfo=texts)

    @contextmanager
    def _picture(self, path: Path) -> Iterator[Image.Image]:
        """The picture in a file, its pixels not yet decoded."""
        from PIL import Image

        found = filetypes.of(path)
        if found and found.group != "picture" and found not in _ANIMATIONS:
            raise UsageError(f"this is not a picture but {found.name}", hint="give it the name of what it is")
        with _reading("a picture"), Image.open(path, formats=_FORMATS) as image:
            if image.width * image.height > self.most_pixels:
                raise UsageError(
                    f"a picture of {image.width} × {image.height} is too large", hint="scale it down first"
                )
            yield image

    def _upright(self, path: Path, side: int | None = None) -> Image.Image:
        """A picture as its EXIF data turns it, scaled down to at most `side` pixels."""
        from PIL import ImageOps

        with self._picture(path) as image:
            if side is not None:
                image.draft("RGB", (side * 2, side * 2))
                if image.mode not in _SCALABLE or "transparency" in image.info:
                    image = image.convert("RGBA" if image.has_transparency_data else "RGB")
                image.thumbnail((side, side))
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            return image

    def _first_frame(self, path: Path, side: int) -> Image.Image:
        """The first frame of a video, scaled down to at most `side` pixels.

        The file is passed as a stream, so that nothing in it can name another file.
        """
        import av
        from av.stream import Disposition

        found = filetypes.of(path)
        if found is None:
            raise UsageError("this is not a video of a known type, or it is damaged")
        if found.group != "video" or found == filetypes.ANIMATED_WEBP:  # which FFmpeg doesn't read
            raise UsageError(f"this is not a video but {found.name}", hint="give it the name of what it is")
        with _reading("a video"), path.open("rb") as file, av.open(file, "r", format=found.demuxer) as container:
            films = [film for film in container.streams.video if not film.disposition & Disposition.attached_pic]
            if not films:
                raise UsageError("this video has no picture stream")
            stream = films[0]
            width, height = stream.width, stream.height
            if not 0 < width * height <= self.most_pixels:
                raise UsageError(f"a video of {width} × {height} can't be used", hint="rescale it first")
            stream.thread_count = 1
            # frames may be larger than the container says
            stream.codec_context.options = {"max_pixels": str(self.most_pixels)}
            packets = islice(container.demux(stream), MOST_PACKETS)
            frame = next((frame for packet in packets for frame in packet.decode()), None)
            if frame is None:
                raise UsageError("no frame of this video can be decoded")
            scale = min(1.0, side / max(width, height))
            sides = {"width": max(1, round(width * scale)), "height": max(1, round(height * scale))}
            image: Image.Image = frame.to_image(**sides)  # type: ignore[no-untyped-call]
            return image


def _flat(image: Image.Image) -> Image.Image:
    """The picture as RGB, transparent parts on black."""
    from PIL import Image

    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "black"), rgba).convert("RGB")


@contextmanager
def _reading(what: str) -> Iterator[None]:
    """Turn whatever a library raises on an arbitrary file into a UsageError."""
    from PIL import Image

    try:
        yield
    except (KinographError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise UsageError(f"{what} of so many pixels is too large", hint="scale it down first") from error
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise UsageError(f"this is not {what}, or it is damaged: {reason.splitlines()[0][:200]}") from error
