"""Nodes that read files, and nodes that encode what is to be saved."""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated

from pydantic import AfterValidator, Field

from engine.node import Context, FilePrefix, InputFile, Node
from engine.values import Files, Image, Media, Video


def _inside(prefix: str) -> str:
    """Pass on a prefix that stays within the output folder on every system."""
    path = PurePosixPath(prefix)
    if not path.name or prefix.endswith("/"):
        raise ValueError("a file name is needed, such as 'kinograph' or 'folder/kinograph'")
    if ".." in path.parts or path.is_absolute() or PureWindowsPath(prefix).anchor:
        raise ValueError("the name may not lead out of the output folder")
    if bad := sorted({letter for letter in prefix if letter in '<>:"\\|?*' or not letter.isprintable()}):
        raise ValueError(f"file names on some systems can't contain {' '.join(map(repr, bad))}")
    return str(path)


Prefix = Annotated[str, FilePrefix(), Field(max_length=200), AfterValidator(_inside)]
Scale = Annotated[int, Field(ge=1, le=16)]


class LoadImage(Node, version=1, category="files", uses="io"):
    """Read a picture: PNG, JPEG, WebP, GIF, BMP or TIFF, and the first of several in one file.

    It is turned as its EXIF data says; transparent parts are laid on black.
    """

    image: InputFile
    """The file."""

    def run(self, ctx: Context) -> Image:
        from nodes.files.pictures import read

        return Image(read(Path(self.image)))


class SaveImage(Node, version=1, category="files", saves="image"):
    """Save each picture of a batch as a PNG file."""

    images: Image
    """The pictures."""
    filename_prefix: Prefix = "kinograph"
    """What the files' names start with; `folder/name` saves into a folder below the output folder."""
    scale: Scale = 1
    """Enlarge the pictures this many times, pixel by pixel."""

    def run(self, ctx: Context) -> Files:
        from nodes.files.media import encode_png

        pictures = (encode_png(picture, scale=self.scale) for picture in self.images.pixels)
        return Files(tuple(Media(data, "png", self.filename_prefix) for data in pictures))


class SaveVideo(Node, version=1, category="files", saves="video"):
    """Save a video as MP4 (H.264), as browsers play it."""

    video: Video
    """The video."""
    filename_prefix: Prefix = "kinograph"
    """What the file's name starts with; `folder/name` saves into a folder below the output folder."""
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
        return Files((Media(data, "mp4", self.filename_prefix),))


class SaveText(Node, version=1, category="files", uses="io", saves="text"):
    """Save a text as a UTF-8 file."""

    text: str
    """The text."""
    filename_prefix: Prefix = "kinograph"
    """What the file's name starts with; `folder/name` saves into a folder below the output folder."""

    def run(self, ctx: Context) -> Files:
        text = self.text if self.text.endswith("\n") else f"{self.text}\n"
        return Files((Media(text.encode(), "txt", self.filename_prefix),))
