"""Nodes that read files, and nodes that encode what is to be saved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from engine.errors import InputError
from engine.node import Context, InputFile, Node
from engine.values import Files, Image, Media, Video
from nodes.inputs import Prefix

Scale = Annotated[int, Field(ge=1, le=16)]
PREVIEW = "preview"
"""What the names of files start with that are only for looking at."""


MOST_TEXT = 1_000_000
"""Bytes of a text that is read."""


class Picture(NamedTuple):
    """A picture that was read."""

    out: Image
    """The picture."""
    mask: Image
    """White where it is transparent (1 − alpha), the same in all channels."""


class LoadImage(Node, version=2, category="files", uses="io"):
    """Read a picture: PNG, JPEG, WebP, GIF, BMP or TIFF, and the first of several in one file.

    It is turned as its EXIF data says; transparent parts are laid on black, and are white in the mask.
    """

    image: InputFile
    """The file."""

    def run(self, ctx: Context) -> Picture:
        from nodes.files.pictures import read

        pixels, mask = read(Path(self.image))
        return Picture(Image(pixels), Image(mask))


class LoadVideo(Node, version=1, category="files"):
    """Read a video, without its sound: MP4, WebM, MKV, MOV, GIF and whatever else FFmpeg reads.

    Frames stand upright and come at an even rate: where the file's is not even, or another is asked for, frames are
    repeated or left out. They are held in memory as they are, so a long video needs a smaller size or fewer frames.
    """

    file: InputFile
    """The file."""
    start: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    """Seconds to leave out at the beginning."""
    frames: Annotated[int, Field(ge=0, le=100_000)] = 0
    """How many frames at most; 0 is all."""
    fps: Annotated[float, Field(ge=0, le=240)] = 0.0
    """Frames a second; 0 is the file's own, on average."""
    width: Annotated[int, Field(ge=0, le=8192)] = 0
    """Width in pixels; 0 is the file's own, or in proportion to the height."""
    height: Annotated[int, Field(ge=0, le=8192)] = 0
    """Height in pixels; 0 is the file's own, or in proportion to the width."""

    def run(self, ctx: Context) -> Video:
        from nodes.files.films import Wanted, read

        wanted = Wanted(self.start, self.frames, self.fps, self.width, self.height)
        return read(ctx, Path(self.file), wanted)


class LoadText(Node, version=1, category="files", uses="io"):
    """Read a text of at most a megabyte, such as a list of prompts."""

    file: InputFile
    """The file, in UTF-8."""

    def run(self, ctx: Context) -> str:
        with Path(self.file).open("rb") as file:
            data = file.read(MOST_TEXT + 1)
        if len(data) > MOST_TEXT:
            raise InputError(f"the text is longer than {MOST_TEXT:,} bytes", input="file", hint="split it")
        try:
            return data.decode("utf-8-sig").replace("\r\n", "\n")
        except UnicodeDecodeError as error:
            raise InputError("the file is no UTF-8 text", input="file", hint="save it as UTF-8") from error


def _sized(prefix: str, shape: Sequence[int], scale: int) -> str:
    """A prefix with the size of the pictures filled in, as users of ComfyUI write it; the time is filled in later."""
    height, width = (side * scale for side in shape[-2:])
    return prefix.replace("%width%", str(width)).replace("%height%", str(height))


class SaveImage(Node, version=2, category="files", saves="image"):
    """Save each picture of a batch as a PNG file."""

    images: Image
    """The pictures."""
    filename_prefix: Prefix = "kinograph"
    """What the files' names start with; `folder/name` saves into a folder below the output folder. `%width%`,
    `%height%`, `%year%`, `%month%`, `%day%`, `%hour%`, `%minute%` and `%second%` are filled in."""
    scale: Scale = 1
    """Enlarge the pictures this many times, pixel by pixel."""

    def run(self, ctx: Context) -> Files:
        from nodes.files.media import encode_png

        prefix = _sized(self.filename_prefix, self.images.pixels.shape, self.scale)
        pictures = (encode_png(picture, scale=self.scale) for picture in self.images.pixels)
        return Files(tuple(Media(data, "png", prefix) for data in pictures))


class PreviewImage(Node, version=1, category="files", saves="image", temporary=True):
    """Show each picture of a batch."""

    images: Image
    """The pictures."""

    def run(self, ctx: Context) -> Files:
        from nodes.files.media import encode_png

        return Files(tuple(Media(encode_png(picture), "png", PREVIEW) for picture in self.images.pixels))


class SaveVideo(Node, version=2, category="files", saves="video"):
    """Save a video as MP4 (H.264), as browsers play it."""

    video: Video
    """The video."""
    filename_prefix: Prefix = "kinograph"
    """What the file's name starts with; `folder/name` saves into a folder below the output folder. `%width%`,
    `%height%`, `%year%`, `%month%`, `%day%`, `%hour%`, `%minute%` and `%second%` are filled in."""
    format: Literal["auto", "mp4"] = "auto"
    """The kind of file; there is only MP4 so far."""
    codec: Literal["auto", "h264"] = "auto"
    """How it is encoded; there is only H.264 so far."""
    quality: Annotated[int, Field(ge=1, le=51)] = 18
    """x264's constant rate factor: lower is better and larger."""
    fps: Annotated[float, Field(ge=0, le=240)] = 0.0
    """Frames a second; 0 is the video's own."""
    scale: Scale = 1
    """Enlarge the frames this many times, pixel by pixel, so that small ones can be watched."""

    def run(self, ctx: Context) -> Files:
        from nodes.files.media import encode_mp4

        fps = self.fps or self.video.fps
        data = encode_mp4(self.video.frames, fps, crf=self.quality, scale=self.scale)
        prefix = _sized(self.filename_prefix, self.video.frames.shape, self.scale)
        return Files((Media(data, "mp4", prefix),))


class PreviewVideo(Node, version=1, category="files", saves="video", temporary=True):
    """Show a video, playing at its own rate."""

    video: Video
    """The video."""

    def run(self, ctx: Context) -> Files:
        from nodes.files.media import encode_mp4

        return Files((Media(encode_mp4(self.video.frames, self.video.fps), "mp4", PREVIEW),))


class SaveText(Node, version=1, category="files", uses="io", saves="text"):
    """Save a text as a UTF-8 file."""

    text: str
    """The text."""
    filename_prefix: Prefix = "kinograph"
    """What the file's name starts with; `folder/name` saves into a folder below the output folder."""

    def run(self, ctx: Context) -> Files:
        text = self.text if self.text.endswith("\n") else f"{self.text}\n"
        return Files((Media(text.encode(), "txt", self.filename_prefix),))


class PreviewText(Node, version=1, category="files", uses="io", saves="text", temporary=True):
    """Show a text."""

    text: str
    """The text."""

    def run(self, ctx: Context) -> Files:
        return Files((Media(self.text.encode(), "txt", PREVIEW),))
