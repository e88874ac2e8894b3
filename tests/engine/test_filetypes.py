"""What a file is, by its contents alone."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from engine import filetypes
from engine.filetypes import VIDEO_NAMES, FileType

FRAMES = [Image.fromarray(np.full((16, 16, 3), level, np.uint8)) for level in (0, 90, 180)]


def of(data: bytes) -> FileType:
    found = filetypes.of_open(io.BytesIO(data))
    assert found is not None
    return found


def film(format: str, codec: str = "mpeg2video") -> bytes:
    """A second of black in a container, or in none."""
    file = io.BytesIO()
    with av.open(file, "w", format=format) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "yuv420p"
        for _ in range(25):
            container.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        container.mux(stream.encode(None))
    return file.getvalue()


@pytest.mark.parametrize(
    ("format", "codec", "name"),
    [
        ("mp4", "mpeg4", "an MP4 file"),
        ("mov", "mpeg4", "a QuickTime file"),
        ("matroska", "mpeg4", "a Matroska file"),
        ("webm", "libvpx", "a WebM file"),
        ("avi", "mpeg4", "an AVI file"),
        ("mpegts", "mpeg2video", "an MPEG transport stream"),
        ("vob", "mpeg2video", "an MPEG program stream"),
        ("mxf", "mpeg2video", "an MXF file"),
        ("flv", "flv", "a Flash video"),
        ("asf", "wmv2", "a Windows Media file"),
        ("h264", "libx264", "an H.264 stream"),
        ("mpeg2video", "mpeg2video", "an MPEG stream"),
        ("m4v", "mpeg4", "an MPEG-4 stream"),
        ("yuv4mpegpipe", "wrapped_avframe", "a Y4M file"),
        ("ivf", "libvpx", "an IVF file"),
        ("nut", "mpeg4", "a NUT file"),
    ],
)
def test_videos_are_known_with_the_format_that_reads_them(format: str, codec: str, name: str) -> None:
    data = film(format, codec)
    found = of(data)
    assert (found.group, found.name) == ("video", name)
    with av.open(io.BytesIO(data), format=found.demuxer) as container:
        assert next(container.decode(video=0)).width == 64


def test_a_recording_may_begin_within_a_packet_and_have_longer_ones() -> None:
    stream = film("mpegts")
    assert of(stream[100:]).demuxer == "mpegts"
    packets = [stream[at : at + 188] for at in range(0, len(stream), 188)]
    assert of(b"".join(b"time" + packet for packet in packets)).demuxer == "mpegts"


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "AVIF"])
def test_several_pictures_make_a_film_and_one_does_not(format: str) -> None:
    still, animated, single = io.BytesIO(), io.BytesIO(), io.BytesIO()
    FRAMES[0].save(still, format)
    FRAMES[0].save(animated, format, save_all=True, append_images=FRAMES[1:], duration=100)
    FRAMES[0].save(single, format, save_all=True, append_images=[], duration=100)
    assert [of(file.getvalue()).group for file in (still, animated, single)] == ["picture", "video", "picture"]


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_a_film_that_is_cut_anywhere_is_still_of_a_known_type(format: str) -> None:
    file = io.BytesIO()
    FRAMES[0].save(file, format, save_all=True, append_images=FRAMES[1:], duration=100)
    data = file.getvalue()
    assert {of(data[:size]).group for size in range(12, len(data))} == {"picture", "video"}


@pytest.mark.parametrize(
    ("data", "group", "name"),
    [
        (b"\xff\xd8\xff\xe0" + bytes(20), "picture", "a JPEG picture"),
        (b"\0\0\0\x18ftypheic" + bytes(20), "picture", "a HEIC picture"),
        (b"\0\0\0\x18ftypM4A " + bytes(20), "sound", "an M4A file"),
        (b"\0\0\0\x08wide\0\0\0\0mdat", "video", "an MP4 file"),
        (b"RIFF\0\0\0\0WAVEfmt ", "sound", "a WAV file"),
        (b"OggS\0\x02" + bytes(22) + b"\x01vorbis", "sound", "an Ogg file"),
        (b"OggS\0\x02" + bytes(22) + b"\x80theora", "video", "an Ogg file"),
        (b"ID3\x04" + bytes(20), "sound", "an MP3 file"),
        (b"\0\0\0\x01\x40\x01\x0c", "video", "an H.265 stream"),
        (b"\0\0\x01\0\x01\0", "picture", "an icon"),
        (b"%PDF-1.7", "other", "a PDF document"),
        (b"PK\x03\x04", "other", "a ZIP archive or an office document"),
        ("Grüße".encode() * 5000, "other", "a text"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "picture", "an SVG picture"),
        (b"BMX is a sport", "other", "a text"),
    ],
)
def test_other_files_are_told_by_their_first_bytes(data: bytes, group: str, name: str) -> None:
    assert of(data)[:2] == (group, name)


@pytest.mark.parametrize("codec", [("mp3", "libmp3lame"), ("adts", "aac"), ("flac", "flac")])
def test_sound_without_a_container(codec: tuple[str, str]) -> None:
    file = io.BytesIO()
    with av.open(file, "w", format=codec[0], options={"id3v2_version": "0", "write_id3v1": "0"}) as container:
        stream = container.add_stream(codec[1], rate=44100)
        samples = np.zeros((1, 44100), np.int16)
        sound = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        sound.sample_rate = 44100
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    assert of(file.getvalue()).group == "sound"


@pytest.mark.parametrize("data", [b"", bytes(5000), bytes(range(256)) * 20, b"\xff\xfb", b"\0\0\x01", b"RIFF", b"\x47"])
def test_nothing_is_made_of_other_bytes(data: bytes) -> None:
    assert filetypes.of_open(io.BytesIO(data)) in (None, filetypes.TEXT)


def test_random_bytes_are_hardly_ever_taken_for_a_video() -> None:
    rng = np.random.default_rng(0)
    found = [filetypes.of_open(io.BytesIO(rng.bytes(4096))) for _ in range(300)]
    assert not [kind for kind in found if kind and kind.group == "video"]


def test_a_file_is_read_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "film.txt").write_bytes(film("mp4", "mpeg4"))
    assert filetypes.of(tmp_path / "film.txt") == filetypes.MP4
    with pytest.raises(FileNotFoundError):
        filetypes.of(tmp_path / "gone.mp4")


def test_names_that_promise_a_video() -> None:
    for name in ("a.mp4", "B.VOB", "c.h264", "d.mxf", "e.m2ts", "f.webm", "g.mkv"):
        assert filetypes.promises_video(name)
    for name in ("a.webp", "b.gif", "mp4", "c.mp4.txt", "d"):
        assert not filetypes.promises_video(name)
    assert all(ending.startswith(".") and ending == ending.lower() for ending in VIDEO_NAMES)
