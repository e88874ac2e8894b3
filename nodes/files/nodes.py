"""Nodes that read files, and nodes that encode what is to be saved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from engine.errors import InputError
from engine.node import Context, FileContents, InputFile, Node
from engine.values import Files, Image, Media, Video
from nodes.files import captioned
from nodes.inputs import Prefix

PictureFolder = Annotated[str, FileContents("files", captioned.watched)]
"""A folder of pictures."""
Scale = Annotated[int, Field(ge=1, le=16)]
PREVIEW = "preview"
"""The start of the file names of previews."""
MAX_TEXT = 1_000_000
"""Most bytes of a text that is read."""


class Picture(NamedTuple):
    """A picture that was read."""

    out: Image
    """The picture, or the frames of an animation."""
    mask: Image
    """White where it is transparent (1 − alpha), the same in all channels."""


class LoadImage(Node, version=3, category="files", uses="io", libraries=("pillow",)):
    """Read a picture: PNG, JPEG, WebP, GIF, AVIF, BMP or TIFF, whatever its name. An animated GIF, WebP, PNG or AVIF
    gives all of its frames, any other file with several pictures the first.

    It is rotated as its EXIF data says. Transparent parts keep the colours that the file has there, and are white in
    the mask.
    """

    image: InputFile
    """The file."""

    def run(self, ctx: Context) -> Picture:
        from nodes.files.pictures import read

        pixels, mask = read(Path(self.image))
        return Picture(Image(pixels), Image(mask))


class CaptionedPictures(NamedTuple):
    """The pictures of a folder, in the order of their names."""

    images: tuple[Image, ...]
    """The pictures, each of its own size."""
    captions: tuple[str, ...]
    """The caption of each, empty where there is none."""


class LoadPictures(Node, version=2, category="files", uses="io", libraries=("pillow",)):
    """Read the pictures of a folder and of those in it, and their captions: `cat.txt` holds that of `cat.png`.

    They are rotated as their EXIF data says, and white where they are transparent. Of animations the first frame is
    taken. Other files are passed over.
    """

    folder: PictureFolder
    """The folder."""

    def run(self, ctx: Context) -> CaptionedPictures:
        found = captioned.pairs(Path(self.folder), ctx.may_read)
        images = []
        for done, (picture, _) in enumerate(found):
            ctx.progress(done, len(found), unit="picture")
            images.append(Image(captioned.read_on_white(picture)))
        return CaptionedPictures(
            tuple(images), tuple(captioned.read_caption(text) if text else "" for _, text in found)
        )


class LoadVideo(Node, version=3, category="files", libraries=("av", "pillow")):
    """Read a video, without its sound: MP4, WebM, MKV, MOV, animated GIF or WebP and whatever else FFmpeg reads,
    whatever its name.

    Frames are upright and at a constant rate: where the file's rate varies, or another is asked for, frames are
    repeated or left out. They are held in memory uncompressed, so a long video needs a smaller size or fewer frames.
    """

    file: InputFile
    """The file."""
    start: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    """Seconds to leave out at the beginning."""
    frames: Annotated[int, Field(ge=0, le=100_000)] = 0
    """The most frames to read; 0 is all."""
    fps: Annotated[float, Field(ge=0, le=240)] = 0.0
    """Frames per second; 0 is the file's own, on average."""
    width: Annotated[int, Field(ge=0, le=8192)] = 0
    """Width in pixels; 0 is the file's own, or in proportion to the height."""
    height: Annotated[int, Field(ge=0, le=8192)] = 0
    """Height in pixels; 0 is the file's own, or in proportion to the width."""

    def run(self, ctx: Context) -> Video:
        from nodes.files.films import Selection, read

        selection = Selection(self.start, self.frames, self.fps, self.width, self.height)
        return read(ctx, Path(self.file), selection)


class LoadText(Node, version=1, category="files", uses="io"):
    """Read a text of at most a megabyte, such as a list of prompts."""

    file: InputFile
    """The file, in UTF-8."""

    def run(self, ctx: Context) -> str:
        with Path(self.file).open("rb") as file:
            data = file.read(MAX_TEXT + 1)
        if len(data) > MAX_TEXT:
            raise InputError(f"the text is longer than {MAX_TEXT:,} bytes", input="file", hint="split it")
        try:
            return data.decode("utf-8-sig").replace("\r\n", "\n")
        except UnicodeDecodeError as error:
            raise InputError("the file is not UTF-8 text", input="file", hint="save it as UTF-8") from error


def _sized(prefix: str, shape: Sequence[int], scale: int) -> str:
    """Fill in the pictures' size in a prefix, with ComfyUI's placeholders; the time is filled in later."""
    height, width = (side * scale for side in shape[-2:])
    return prefix.replace("%width%", str(width)).replace("%height%", str(height))


class SaveImage(Node, version=2, category="files", saves="image"):
    """Save each picture of a batch as a PNG file."""

    images: Image
    """The pictures."""
    filename_prefix: Prefix = "kinograph"
    """The start of the files' names; `folder/name` saves into a folder below the output folder. `%width%`,
    `%height%`, `%date:yyyy-MM-dd%`, `%year%` and the like, `%batch_num%`, and a node's value, `%Text.text%`, are filled
    in."""
    scale: Scale = 1
    """Enlarge the pictures this many times, repeating pixels."""

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


class SaveVideo(Node, version=3, category="files", saves="video", libraries=("av",)):
    """Save a video as MP4 (H.264), which browsers play."""

    video: Video
    """The video."""
    filename_prefix: Prefix = "kinograph"
    """The start of the file's name; `folder/name` saves into a folder below the output folder. `%width%`,
    `%height%`, `%date:yyyy-MM-dd%`, `%year%` and the like, and a node's value, `%Text.text%`, are filled in."""
    format: Literal["auto", "mp4"] = "auto"
    """The container; only MP4 so far."""
    codec: Literal["auto", "h264"] = "auto"
    """The codec; only H.264 so far."""
    quality: Annotated[int, Field(ge=1, le=51)] = 18
    """x264's constant rate factor: lower is better and larger."""
    fps: Annotated[float, Field(ge=0, le=240)] = 0.0
    """Frames per second; 0 is the video's own."""
    scale: Scale = 1
    """Enlarge the frames this many times, repeating pixels, so that small ones can be watched."""

    def run(self, ctx: Context) -> Files:
        from nodes.files.media import encode_mp4

        fps = self.fps or self.video.fps
        data = encode_mp4(self.video.frames, fps, crf=self.quality, scale=self.scale)
        prefix = _sized(self.filename_prefix, self.video.frames.shape, self.scale)
        return Files((Media(data, "mp4", prefix),))


class PreviewVideo(Node, version=2, category="files", saves="video", temporary=True, libraries=("av",)):
    """Show a video at its own rate."""

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
    """The start of the file's name; `folder/name` saves into a folder below the output folder. `%date:yyyy-MM-dd%` and
    a node's value, `%Text.text%`, are filled in."""

    def run(self, ctx: Context) -> Files:
        text = self.text if self.text.endswith("\n") else f"{self.text}\n"
        return Files((Media(text.encode(), "txt", self.filename_prefix),))


class PreviewText(Node, version=1, category="files", uses="io", saves="text", temporary=True):
    """Show a text."""

    text: str
    """The text."""

    def run(self, ctx: Context) -> Files:
        return Files((Media(self.text.encode(), "txt", PREVIEW),))
