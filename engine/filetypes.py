"""What a file is, by its first bytes: names lie, and a folder holds all kinds of files.

It reads little and decodes nothing. That a container can hold a video doesn't mean that it does: opening it tells.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

Group = Literal["video", "picture", "sound", "other"]
HEAD = 4096
"""Bytes from the start that are looked at."""
VIDEO_NAMES = frozenset(
    ".mp4 .m4v .mov .qt .3gp .3g2 .mkv .mk3d .webm .avi .divx .mpg .mpeg .mpe .m1v .m2v .vob .ts .m2ts .mts .m2t .flv "  # noqa: SIM905
    ".f4v .wmv .asf .ogv .ogm .mxf .gxf .rm .rmvb .dv .dif .h264 .264 .avc .h265 .265 .hevc .ivf .y4m .nut".split()
)
"""Endings of names that promise a video. GIF, WebP, PNG and AVIF files may hold a film or a still."""


class FileType(NamedTuple):
    """A type of file."""

    group: Group
    """"video" for what moves or may, such as an animation, and MP4, which may hold sound alone."""
    name: str
    """As people call it, with an article: "an MP4 file"."""
    demuxer: str = ""
    """FFmpeg's name of the format, if it may hold a video."""


JPEG, GIF = FileType("picture", "a JPEG picture"), FileType("picture", "a GIF picture")
PNG, WEBP = FileType("picture", "a PNG picture"), FileType("picture", "a WebP picture")
ANIMATED_GIF, ANIMATED_PNG = FileType("video", "an animated GIF", "gif"), FileType("video", "an animated PNG", "apng")
ANIMATED_WEBP = FileType("video", "an animated WebP", "webp")
AVIF, ANIMATED_AVIF = FileType("picture", "an AVIF picture"), FileType("video", "an animated AVIF", "mov")
MP4, M4A = FileType("video", "an MP4 file", "mov"), FileType("sound", "an M4A file", "mov")
MATROSKA, WEBM = FileType("video", "a Matroska file", "matroska"), FileType("video", "a WebM file", "matroska")
TRANSPORT = FileType("video", "an MPEG transport stream", "mpegts")
PROGRAM = FileType("video", "an MPEG program stream", "mpeg")
MXF = FileType("video", "an MXF file", "mxf")
H264, HEVC = FileType("video", "an H.264 stream", "h264"), FileType("video", "an H.265 stream", "hevc")
MPEG_VIDEO, MPEG4 = FileType("video", "an MPEG stream", "mpegvideo"), FileType("video", "an MPEG-4 stream", "m4v")
OGG_VIDEO, OGG_SOUND = FileType("video", "an Ogg file", "ogg"), FileType("sound", "an Ogg file", "ogg")
MP3, AAC = FileType("sound", "an MP3 file", "mp3"), FileType("sound", "an AAC file", "aac")
TEXT = FileType("other", "a text")

_STARTS: tuple[tuple[bytes, FileType], ...] = (
    (b"\xff\xd8\xff", JPEG),
    (b"\x1aE\xdf\xa3", MATROSKA),
    (b"\0\0\x01\xba", PROGRAM),
    (b"\0\0\x01\xb3", MPEG_VIDEO),
    (b"\0\0\x01\xb0", MPEG4),
    (b"FLV\x01", FileType("video", "a Flash video", "flv")),
    (b"0&\xb2u\x8ef\xcf\x11", FileType("video", "a Windows Media file", "asf")),
    (b".RMF\0\0\0", FileType("video", "a RealMedia file", "rm")),
    (b"DKIF", FileType("video", "an IVF file", "ivf")),
    (b"YUV4MPEG2 ", FileType("video", "a Y4M file", "yuv4mpegpipe")),
    (b"nut/multimedia container\0", FileType("video", "a NUT file", "nut")),
    (b"\x1f\x07\0?", FileType("video", "a DV file", "dv")),
    (b"\x1f\x07\0\xbf", FileType("video", "a DV file", "dv")),
    (b"\0\0\0\0\x01\xbc", FileType("video", "a GXF file", "gxf")),
    (b"fLaC", FileType("sound", "a FLAC file", "flac")),
    (b"ID3", MP3),
    (b"#!AMR", FileType("sound", "an AMR file", "amr")),
    (b"MThd", FileType("sound", "a MIDI file")),
    (b"wvPk", FileType("sound", "a WavPack file", "wv")),
    (b"caff", FileType("sound", "a CAF file", "caf")),
    (b"\x0bw", FileType("sound", "an AC-3 file", "ac3")),
    (b"II*\0", FileType("picture", "a TIFF picture")),
    (b"MM\0*", FileType("picture", "a TIFF picture")),
    (b"8BPS", FileType("picture", "a Photoshop picture")),
    (b"\0\0\x01\0", FileType("picture", "an icon")),
    (b"v/1\x01", FileType("picture", "an OpenEXR picture")),
    (b"\0\0\0\x0cJXL ", FileType("picture", "a JPEG XL picture")),
    (b"\xff\x0a", FileType("picture", "a JPEG XL picture")),
    (b"\0\0\0\x0cjP  ", FileType("picture", "a JPEG 2000 picture")),
    (b"%PDF-", FileType("other", "a PDF document")),
    (b"PK\x03\x04", FileType("other", "a ZIP archive or an office document")),
    (b"\xd0\xcf\x11\xe0", FileType("other", "an office document")),
    (b"\x1f\x8b", FileType("other", "a gzip archive")),
    (b"BZh", FileType("other", "a bzip2 archive")),
    (b"\xfd7zXZ\0", FileType("other", "an xz archive")),
    (b"7z\xbc\xaf", FileType("other", "a 7-Zip archive")),
    (b"Rar!", FileType("other", "a RAR archive")),
    (b"(\xb5/\xfd", FileType("other", "a Zstandard archive")),
    (b"PAR1", FileType("other", "a Parquet table")),
    (b"SQLite format 3\0", FileType("other", "a SQLite database")),
    (b"\x7fELF", FileType("other", "a program")),
)
"""Types that always start with the same bytes."""
_RIFF = {
    b"AVI ": FileType("video", "an AVI file", "avi"),
    b"AVIX": FileType("video", "an AVI file", "avi"),
    b"WAVE": FileType("sound", "a WAV file", "wav"),
}
_BOXES = frozenset({b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"styp", b"moof", b"sidx"})
"""Kinds of box that MP4 and QuickTime files start with."""
_BRANDS = {
    **dict.fromkeys((b"avif", b"MA1B", b"MA1A"), AVIF),
    b"avis": ANIMATED_AVIF,
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"mif1"), FileType("picture", "a HEIC picture")),
    **dict.fromkeys((b"hevc", b"hevx", b"msf1"), FileType("video", "an animated HEIC", "mov")),
    **dict.fromkeys((b"M4A ", b"M4B ", b"M4P "), M4A),
    b"crx ": FileType("picture", "a Canon raw picture"),
    b"qt  ": FileType("video", "a QuickTime file", "mov"),
}
"""MP4's major brands that aren't plain MP4."""
_OGG_VIDEOS = b"\x80theora", b"OVP80", b"BBCD\0"
_H264_UNITS, _HEVC_UNITS = frozenset({6, 7, 9}), frozenset({32, 33, 35, 39})
"""The kinds of unit that a stream starts with: parameters, a delimiter, or additional information."""
_STEPS = 188, 192, 204
"""Bytes of a packet of a transport stream, as broadcast, as cameras and discs have it, and with error correction."""
_SYNC, _SYNCS = 0x47, 4
_MXF_START = b"\x06\x0e+4\x02\x05\x01\x01\r\x01\x02"
_CONTROLS = frozenset(range(32)) - frozenset(b"\t\n\r\f\x1b")
"""Characters that texts don't have."""


def of(path: Path) -> FileType | None:
    """The type of a file; None if it is empty or of no known type.

    Raises:
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        return of_open(file)


def of_open(file: BinaryIO) -> FileType | None:
    """The type of an open file, read from its start."""
    head = file.read(HEAD)
    found = (guess(head) for guess in (_by_start, _riff, _iso, _ogg, _bitmap, _units, _sound, _transport, _mxf, _text))
    return _film_or_still(head, file) or next(filter(None, found), None)


def promises_video(name: str) -> bool:
    """Whether a file's name says that it is a video."""
    return Path(name).suffix.lower() in VIDEO_NAMES


def _by_start(head: bytes) -> FileType | None:
    found = next((kind for start, kind in _STARTS if head.startswith(start)), None)
    return WEBM if found is MATROSKA and b"webm" in head[:64] else found


def _riff(head: bytes) -> FileType | None:
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return FileType("sound", "an AIFF file", "aiff")
    return _RIFF.get(head[8:12]) if head[:4] in (b"RIFF", b"RF64") else None


def _iso(head: bytes) -> FileType | None:
    if head[4:8] not in _BOXES:
        return None
    return _BRANDS.get(head[8:12], MP4) if head[4:8] == b"ftyp" else MP4


def _ogg(head: bytes) -> FileType | None:
    if not head.startswith(b"OggS"):
        return None
    return OGG_VIDEO if any(mark in head for mark in _OGG_VIDEOS) else OGG_SOUND


def _bitmap(head: bytes) -> FileType | None:
    is_bitmap = head.startswith(b"BM") and len(head) > 18 and head[6:10] == bytes(4) and head[14] in (12, 40, 108, 124)
    return FileType("picture", "a BMP picture") if is_bitmap else None


def _units(head: bytes) -> FileType | None:
    """H.264 or H.265 without a container: start codes, each before a unit."""
    start = next((len(code) for code in (b"\0\0\0\x01", b"\0\0\x01") if head.startswith(code)), 0)
    if not start or len(head) < start + 3 or head[start] & 0x80:
        return None
    if head[start + 1] == 1 and head[start] & 1 == 0 and head[start] >> 1 & 0x3F in _HEVC_UNITS:
        return HEVC
    return H264 if head[start] & 0x1F in _H264_UNITS else None


def _sound(head: bytes) -> FileType | None:
    """MP3 or AAC without a container, by the first frame's header and the next one's."""
    if len(head) < 8 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    if head[1] & 0xF6 == 0xF0:
        length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
        return AAC if head[length : length + 2] in (head[:2], b"") and length > 7 else None
    is_mp3 = head[1] & 0x18 != 0x08 and head[1] & 6 and head[2] >> 4 not in (0, 15) and head[2] & 0x0C != 0x0C
    return MP3 if is_mp3 and head.find(head[:2], 24) > 0 else None


def _transport(head: bytes) -> FileType | None:
    """Packets of one length that all start alike; a recording may begin within one."""
    for step in _STEPS:
        for offset in range(min(step, len(head))):
            if head[offset] == _SYNC and len(starts := head[offset::step]) >= _SYNCS and set(starts) == {_SYNC}:
                return TRANSPORT
    return None


def _mxf(head: bytes) -> FileType | None:
    return MXF if _MXF_START in head else None


def _text(head: bytes) -> FileType | None:
    if not head or _CONTROLS & set(head):
        return None
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head)  # which lets the last letter be cut
    except UnicodeDecodeError:
        return None
    return FileType("picture", "an SVG picture") if "<svg" in text else TEXT


def _film_or_still(head: bytes, file: BinaryIO) -> FileType | None:
    """A GIF, PNG or WebP file: a film if it has several pictures."""
    if head[:6] in (b"GIF87a", b"GIF89a"):
        pictures, still, film = _gif_pictures(file), GIF, ANIMATED_GIF
    elif head[:8] == b"\x89PNG\r\n\x1a\n":
        pictures, still, film = _png_pictures(file), PNG, ANIMATED_PNG
    elif head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        pictures, still, film = _webp_pictures(file), WEBP, ANIMATED_WEBP
    else:
        return None
    with suppress(struct.error, IndexError):  # it ends early
        if len([*islice(pictures, 2)]) > 1:
            return film
    return still


def _gif_pictures(file: BinaryIO) -> Iterator[object]:
    """Yields at the start of each picture."""
    file.seek(10)
    flags = file.read(3)[0]
    file.seek(3 << (flags & 7) + 1 if flags & 0x80 else 0, 1)
    while (block := file.read(1)) in (b"!", b","):
        if block == b",":
            yield block
            flags = file.read(9)[8]
            file.seek(3 << (flags & 7) + 1 if flags & 0x80 else 0, 1)
        file.seek(1, 1)  # the extension's label, or the size of codes
        while size := file.read(1)[0]:
            file.seek(size, 1)


def _png_pictures(file: BinaryIO) -> Iterator[object]:
    """Yields once for each picture that the header of an animation announces."""
    file.seek(8)
    while True:
        size, kind = struct.unpack(">I4s", file.read(8))
        if kind == b"acTL":
            yield from range(min(2, *struct.unpack(">I", file.read(4))))
        if kind in (b"acTL", b"IDAT", b"IEND"):
            return
        file.seek(size + 4, 1)


def _webp_pictures(file: BinaryIO) -> Iterator[object]:
    """Yields at each picture."""
    file.seek(12)
    while True:
        kind, size = struct.unpack("<4sI", file.read(8))
        if kind in (b"ANMF", b"VP8 ", b"VP8L"):
            yield kind
        file.seek(size + size % 2, 1)
