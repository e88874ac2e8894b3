"""Videos read as frames at a constant rate, compared with FFmpeg's."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.filter import Graph
from numpy.typing import NDArray
from PIL import Image

from engine.errors import Cancelled, InputError
from engine.node import Context
from engine.values import Video
from nodes.files import animations, films
from nodes.files.nodes import LoadVideo
from tests.dataset.films import REAL, song, sprites, write


def shown(video: Video) -> NDArray[np.uint8]:
    """(T, H, W, 3)."""
    assert video.frames.is_contiguous()
    return np.rint(video.frames.movedim(1, -1).numpy() * 255).astype(np.uint8)


def load(path: Path, **inputs: float) -> Video:
    return LoadVideo(file=str(path), **inputs).run(Context())  # type: ignore[arg-type]


def by_ffmpeg(path: Path, fps: float) -> NDArray[np.uint8]:
    """The frames that FFmpeg's filter `fps` gives for a file."""
    graph, found = Graph(), []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        source = graph.add_buffer(template=stream, time_base=stream.time_base)
        graph.link_nodes(source, graph.add("fps", f"fps={fps}:eof_action=round"), graph.add("buffersink"))
        graph.configure()
        for frame in [*container.decode(stream), None]:
            graph.vpush(frame)
            while True:
                try:
                    found.append(graph.vpull().to_ndarray(format="rgb24"))
                except (av.error.BlockingIOError, av.error.EOFError):
                    break
    return np.stack(found)


def test_an_even_video_comes_frame_by_frame(tmp_path: Path) -> None:
    film = sprites(1)[:20]
    video = load(write(tmp_path / "a.mp4", film, fps=12))
    assert (video.fps, video.frames.shape) == (12.0, (20, 3, 128, 128))
    assert np.abs(shown(video).astype(int) - film).mean() < 4


@pytest.mark.full
def test_a_real_video_has_the_frames_that_ffmpeg_decodes() -> None:
    with av.open(str(REAL / "bikes.mp4")) as container:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    video = load(REAL / "bikes.mp4", frames=60)
    assert video.fps == 25
    assert np.abs(shown(video).astype(int) - frames[:60]).max() <= 3, "another way of enlarging the colours"


@pytest.mark.parametrize("fps", [5.0, 24.0, 60.0])
def test_another_rate_repeats_and_leaves_out_the_frames_that_ffmpeg_does(fps: float, tmp_path: Path) -> None:
    times = [0, 0.04, 0.08, 0.5, 0.54, 1.2, 1.21, 1.3, 1.7, 1.74]
    path = write(tmp_path / "a.mp4", sprites(2)[:10], times=times)
    ours, theirs = shown(load(path, fps=fps)), by_ffmpeg(path, fps)
    assert abs(len(theirs) - len(ours)) <= 1, "only how long the last frame is shown may differ"
    same = min(len(ours), len(theirs))
    assert np.abs(ours[:same].astype(int) - theirs[:same]).max() <= 8


def test_a_part_begins_at_a_time_and_has_a_number_of_frames(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", sprites(3), fps=24)
    whole, part = shown(load(path)), shown(load(path, start=0.5, frames=7))
    assert np.array_equal(part, whole[12:19])
    late = load(path, start=1.9)
    assert np.array_equal(shown(late), whole[-2:]), "no more than there are"


def test_frames_are_scaled_in_proportion(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", sprites(4)[:3, :64])
    assert load(path, width=32).frames.shape == (3, 3, 16, 32)
    assert load(path, height=32).frames.shape == (3, 3, 32, 64)
    assert load(path, width=20, height=20).frames.shape == (3, 3, 20, 20)
    small = load(path, width=64).frames
    means = torch.nn.functional.avg_pool2d(load(path).frames, 2)
    assert (small - means).abs().mean() < 0.02


def test_an_animated_gif_is_a_video_as_well(tmp_path: Path) -> None:
    pictures = [Image.new("RGB", (8, 6), colour) for colour in ("red", "lime", "blue")]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=100)
    video = load(tmp_path / "a.gif")
    assert (video.fps, len(video.frames)) == (10.0, 3)
    assert shown(video)[:, 0, 0].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]


@pytest.mark.parametrize("format", ["WEBP", "PNG", "AVIF"])
def test_other_animations_are_videos_with_their_own_times(format: str, tmp_path: Path) -> None:
    pictures = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    pictures[0].save(
        tmp_path / "a", format, save_all=True, append_images=pictures[1:], duration=[100, 300, 100], lossless=True
    )
    colours = shown(load(tmp_path / "a", fps=10))[:, 8, 8].astype(int)
    expected = np.array([[255, 0, 0], *[[0, 255, 0]] * 3, [0, 0, 255]])
    assert colours.shape == expected.shape
    assert np.abs(colours - expected).max() <= 4


def test_an_animated_webp_that_is_torn_or_too_large_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = [Image.fromarray(picture) for picture in sprites(5)[:6]]
    pictures[0].save(tmp_path / "a.webp", save_all=True, append_images=pictures[1:], duration=100)
    assert len(load(tmp_path / "a.webp").frames) == 6
    whole = (tmp_path / "a.webp").read_bytes()
    (tmp_path / "torn.webp").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"torn\.webp can't be read"):
        load(tmp_path / "torn.webp")
    monkeypatch.setattr(animations, "MAX_FILM_PIXELS", 6 * 128 * 128 - 1)
    with pytest.raises(InputError, match="6 frames of 128 × 128 pixels, more than"):
        load(tmp_path / "a.webp")


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    """A WebP file of these chunks, whose data have even lengths."""
    body = b"WEBP" + b"".join(kind + struct.pack("<I", len(data)) + data for kind, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def test_an_animated_webp_without_frames_or_of_an_immense_size_is_an_error(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16), "red").save(tmp_path / "still.webp", lossless=True)
    still = (tmp_path / "still.webp").read_bytes()
    picture = still[20 : 20 + struct.unpack_from("<I", still, 16)[0]]
    picture += bytes(len(picture) % 2)
    (tmp_path / "stills.webp").write_bytes(riff((b"VP8L", picture), (b"VP8L", picture)))
    with pytest.raises(InputError, match=r"stills\.webp can't be read: it has no frames") as caught:
        load(tmp_path / "stills.webp")
    assert caught.value.hint == "the file may be damaged"
    side = (16_000 - 1).to_bytes(3, "little")
    frame = bytes(6) + (16 - 1).to_bytes(3, "little") * 2 + bytes([100, 0, 0, 0])
    frame += b"VP8L" + struct.pack("<I", len(picture)) + picture
    canvas = (b"VP8X", b"\x02" + bytes(3) + side + side)
    (tmp_path / "immense.webp").write_bytes(riff(canvas, (b"ANIM", bytes(6)), (b"ANMF", frame), (b"ANMF", frame)))
    with pytest.raises(InputError, match=r"immense\.webp has frames of far too many pixels") as caught:
        load(tmp_path / "immense.webp")
    assert caught.value.hint == "convert it to MP4"


def test_a_video_is_read_whatever_its_name_and_a_picture_is_not(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", sprites(1)[:3])
    assert len(load(path.rename(tmp_path / "a.jpg")).frames) == 3
    for encoding, what in (("JPEG", "a JPEG picture"), ("GIF", "a GIF picture"), ("WEBP", "a WebP picture")):
        Image.new("RGB", (16, 16)).save(tmp_path / "still.mp4", encoding)
        with pytest.raises(InputError, match=f"still.mp4 is {what}, not a video") as caught:
            load(tmp_path / "still.mp4")
        assert caught.value.hint == "load it as a picture"


@pytest.mark.parametrize(("format", "codec"), [("mp3", "libmp3lame"), ("flac", "flac"), ("mp4", "aac")])
def test_the_cover_of_a_song_is_no_video(format: str, codec: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="song has sound and a cover picture, no video"):
        load(song(tmp_path / "song", format, codec, cover=True))
    with pytest.raises(InputError, match="plain has sound, no video"):
        load(song(tmp_path / "plain", format, codec, cover=False))


def test_a_truncated_video_gives_the_frames_that_it_holds(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", sprites(5, seconds=4))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert 0 < len(load(path).frames) < 96


def test_a_file_that_is_not_a_video_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(InputError, match=r"text\.mp4 is a text, not a video"):
        load(tmp_path / "text.mp4")


def test_a_file_that_is_cut_off_before_its_index_is_said_to_be(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", sprites(1), movflags="")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=r"a\.mp4 can't be opened as an MP4 file, and may be cut short or damaged: "):
        load(path)


def test_a_start_after_the_end_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", sprites(6, seconds=1))
    with pytest.raises(InputError, match=r"no frames from 5 s on") as caught:
        load(path, start=5)
    assert (caught.value.input, caught.value.hint) == ("start", "the video lasts 1.0 s")


def test_a_video_that_would_fill_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(films, "MAX_PIXELS", 10 * 128 * 128)
    path = write(tmp_path / "a.mp4", sprites(7, seconds=1))
    with pytest.raises(InputError, match="too large") as caught:
        load(path)
    assert caught.value.hint == "give a smaller width, or 10 frames at most"
    assert len(load(path, frames=10).frames) == 10
    assert len(load(path, width=64).frames) == 24


def test_frames_that_claim_to_be_shown_for_years_end_somewhere(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", sprites(8)[:2, :16, :16], times=[0, 10**6])
    with pytest.raises(InputError, match="too large"):
        load(path, fps=30)


def test_progress_is_reported_and_reading_can_be_cancelled(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", sprites(9, seconds=1))
    reported: list[tuple[int, int]] = []
    ctx = Context(on_progress=lambda done, total, unit, preview: reported.append((done, total)))
    LoadVideo(file=str(path)).run(ctx)
    assert reported == [(done, 24) for done in range(1, 25)]
    with pytest.raises(Cancelled):
        LoadVideo(file=str(path)).run(Context(cancelled=lambda: True))


def test_no_library_of_the_curation_extra_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.mp4", sprites(1)[:2])
    for name in ("nodes.files.films", "nodes.files.footage"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    for name in ("cv2", "pyarrow", "scenedetect"):
        monkeypatch.setitem(sys.modules, name, None)
    assert len(load(path).frames) == 2
