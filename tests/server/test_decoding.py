"""Pictures that try to take the server's memory or time take only that of a process that decodes them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
import zlib
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import av
import psutil
import pytest

from engine.errors import UsageError
from engine.server.files.decoder import Limits
from engine.server.files.decoding import Decoder
from engine.server.files.previews import BLOCK, PREVIEWS, UPLOADS, Previews
from tests.server.conftest import Server, png
from tests.server.live import Live, live
from tests.server.test_files import opened, video

THUMBNAIL = "/api/kinograph/thumbnail"


def decode(use: Callable[[Decoder], Awaitable[object]], limits: Limits | None = None) -> None:
    async def decoding() -> None:
        decoder = Decoder(limits)
        try:
            await use(decoder)
        finally:
            await decoder.close()

    asyncio.run(decoding())


def children() -> set[int]:
    """The ids of the processes that decode."""
    found = set[int]()
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):  # it has just ended
            if "engine.server.files.decoder" in child.cmdline():
                found.add(child.pid)
    return found


async def until(what: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not what():
            await asyncio.sleep(0.01)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    (tmp_path / "a.png").write_bytes(png())
    return tmp_path / "a.png"


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """A file that no one ever finishes reading."""
    os.mkfifo(tmp_path / "endless.png")
    return tmp_path / "endless.png"


def test_the_server_itself_decodes_nothing(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, film = png((64, 64)), png((64, 64), mode="RGBA"), video()
    (server.folders.output / "a.png").write_bytes(first)
    (server.folders.output / "b.mp4").write_bytes(film)

    def fail(*arguments: object, **options: object) -> None:
        raise AssertionError("a file is opened by the server")

    monkeypatch.setattr("PIL.Image.open", fail)
    monkeypatch.setattr("av.open", fail)
    for name in ("a.png", "b.mp4"):
        assert server.get(THUMBNAIL, filename=name).status == 200
    for query in ({"preview": "webp"}, {"channel": "a"}):
        assert server.get("/view", filename="a.png", **query).status == 200
    for data, name in ((first, "c.png"), (film, "d.mp4")):
        assert server.upload(data, name).status == 200
    assert server.upload(second, "e.png", "/upload/mask", original_ref='{"filename": "a.png"}').status == 200


@pytest.mark.full
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the most memory that a process has taken")
def test_previews_of_a_large_picture_leave_the_servers_memory_alone(tmp_path: Path) -> None:
    def most_megabytes(server: Live) -> int:
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) >> 10

    with live(tmp_path) as server, ThreadPoolExecutor(8) as pool:
        (server.folder / "output" / "a.png").write_bytes(png((8192, 8192)))
        server.get("/view?filename=a.png&preview=jpeg;89")
        before = most_megabytes(server)
        statuses = pool.map(
            lambda quality: server.ask("GET", f"/view?filename=a.png&preview=jpeg;{quality}")[0], range(8)
        )
        assert list(statuses) == [400, *[200] * 7]  # there is no quality 0
        assert most_megabytes(server) - before < 32


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process")
def test_a_picture_that_needs_too_much_memory(tmp_path: Path, picture: Path) -> None:
    large = tmp_path / "large.png"
    large.write_bytes(png((4096, 4096)))

    async def use(decoder: Decoder) -> None:
        with pytest.raises(UsageError, match="needs more than 32 MB of memory"):
            await decoder.run("check", large, options=(".png",))
        await decoder.run("check", picture, options=(".png",))

    decode(use, Limits(nbytes=32 << 20))


@pytest.mark.parametrize("size", [(9000, 8000), (16000, 12000)])
def test_a_picture_of_too_many_pixels_is_called_too_large(tmp_path: Path, size: tuple[int, int]) -> None:
    large = tmp_path / "large.png"
    large.write_bytes(png(size, mode="1", colour="black"))

    async def use(decoder: Decoder) -> None:
        with pytest.raises(UsageError, match=r"^a picture of .* is too large"):
            await decoder.run("check", large, options=(".png",))

    decode(use)


def test_a_picture_that_takes_too_long(picture: Path, endless: Path) -> None:
    async def use(decoder: Decoder) -> None:
        with pytest.raises(UsageError, match=r"takes longer than 0\.3 s"):
            await decoder.run("check", endless, options=(".png",))
        await until(lambda: not children())
        decoder.limits = Limits()
        await decoder.run("check", picture, options=(".png",))

    decode(use, Limits(seconds=0.3))


def test_a_file_that_crashes_the_process(picture: Path, endless: Path) -> None:
    async def use(decoder: Decoder) -> None:
        hanging = asyncio.create_task(decoder.run("check", endless, options=(".png",)))
        await until(children)
        psutil.Process(children().pop()).kill()
        with pytest.raises(UsageError, match=r"can't start|ended in a crash"):
            await hanging
        await decoder.run("check", picture, options=(".png",))

    decode(use)


def test_who_gives_up_leaves_no_answer_to_the_next(picture: Path, endless: Path) -> None:
    async def use(decoder: Decoder) -> None:
        await decoder.run("check", picture, options=(".png",))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(decoder.run("check", endless, options=(".png",)), 0.2)
        with pytest.raises(UsageError, match="not accepted"):
            await decoder.run("check", picture, options=(".exe",))

    decode(use)
    assert not children()


def test_the_process_ends_with_the_server(endless: Path) -> None:
    code = (
        "import asyncio, os, sys; from pathlib import Path; from engine.server.files import decoding, decoder\n"
        "async def main():\n"
        "    each = decoding.Decoder(decoder.Limits(seconds=0.3))\n"
        "    await each._started(); print(each._process.pid, flush=True)\n"
        "    asyncio.create_task(each.run('check', Path(sys.argv[1]), options=('.png',)))\n"
        "    await asyncio.sleep(0.1); os._exit(1)\n"
        "asyncio.run(main())"
    )

    async def run() -> int:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, str(endless), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout
        line = await process.stdout.readline()
        await process.wait()
        return int(line)

    decoder = asyncio.run(run())
    end = time.monotonic() + 30  # it ends itself a second after the limit
    while psutil.pid_exists(decoder) and psutil.Process(decoder).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end
        time.sleep(0.1)


def test_an_idle_process_is_ended(picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.server.files.decoding.IDLE_SECONDS", 0.1)

    async def use(decoder: Decoder) -> None:
        await decoder.run("check", picture, options=(".png",))
        assert children()
        await until(lambda: not children())
        await until(lambda: not decoder._ending)  # however many end, none is remembered
        await decoder.run("check", picture, options=(".png",))

    decode(use)


def test_uploads_do_not_wait_for_previews(server: Server, endless: Path) -> None:
    async def preview() -> asyncio.Task[Path]:
        return asyncio.create_task(server.app[PREVIEWS].thumbnail(endless, 64))

    hanging = server.runner.run(preview())
    assert server.upload(png(), "a.png").status == 200
    assert not hanging.done()


def test_equal_previews_that_are_asked_for_at_once_are_made_once(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = server.folders.output / "a.png"
    path.write_bytes(png((64, 64)))
    previews, calls = server.app[PREVIEWS], list[str]()
    run = previews.decoder.run

    async def counted(call: str, *paths: Path, options: tuple[str | int, ...] = ()) -> None:
        calls.append(call)
        await run(call, *paths, options=options)

    monkeypatch.setattr(previews.decoder, "run", counted)

    async def ask() -> set[Path]:
        return set(await asyncio.gather(*(previews.thumbnail(path, 32) for _ in range(8))))

    assert len(server.runner.run(ask())) == 1
    assert calls == ["thumbnail"]


def test_previews_are_kept_on_disk(server: Server) -> None:
    (server.folders.output / "a.png").write_bytes(png((16, 16), mode="RGBA"))
    asked = [{"preview": "webp;80"}, {"preview": "jpeg"}, {"channel": "rgb"}, {"channel": "a"}]
    formats = [opened(server.get("/view", filename="a.png", **query).body).format for query in asked]
    assert formats == ["WEBP", "JPEG", "PNG", "PNG"]
    kept = list((server.folders.data / "thumbnails").iterdir())
    assert len(kept) == 4
    for path in kept:
        path.write_bytes(b"kept")
    answers = [server.get("/view", filename="a.png", **query) for query in asked]
    assert [answer.body for answer in answers] == [b"kept"] * 4
    again = server.get("/view", filename="a.png", headers={"If-None-Match": answers[0].headers["ETag"]}, **asked[0])
    assert again.status == 304


def test_the_folder_of_previews_stays_within_its_budget(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / f"{number}.jpg").write_bytes(bytes(10))
        os.utime(tmp_path / f"{number}.jpg", (100 - number, number))
    previews = Previews(tmp_path, Decoder(), budget=3 * BLOCK)
    previews.trim()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.jpg", "1.jpg", "2.jpg"]  # those last used
    (tmp_path / "large.part").write_bytes(bytes(4 * BLOCK))
    previews._keep(tmp_path / "large.part", tmp_path / "large.jpg")
    assert [path.name for path in tmp_path.iterdir()] == ["large.jpg"]


def test_what_a_killed_server_left_unfinished_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".half.part").touch()
    (tmp_path / "whole.jpg").touch()
    Previews(tmp_path, Decoder()).sweep()
    assert [path.name for path in tmp_path.iterdir()] == ["whole.jpg"]


def test_the_server_starts_no_process_before_there_is_something_to_decode(server: Server) -> None:
    assert server.get("/api/kinograph/files").status == 200
    assert not children()
    assert UPLOADS in server.app


TAGS = """
import sys
from pathlib import Path
import av
from engine.document.tags import tags
def most():
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
before = most()
print(tags(Path(sys.argv[1]))["comment"], most() - before)
"""
"""Prints the comment of a video, and how many KB more reading it has taken."""


@pytest.mark.skipif(sys.platform != "linux", reason="the memory is read from /proc")
def test_the_workflow_of_a_video_is_looked_for_without_decoding_it(tmp_path: Path) -> None:
    """A frame of 6000 × 6000 pixels takes more than 100 MB; this format doesn't say what its pixels are."""
    path = tmp_path / "a.mov"
    with av.open(path, "w") as container:
        container.metadata["comment"] = "found"
        stream = container.add_stream("png", rate=1, width=6000, height=6000, pix_fmt="rgb24")
        container.mux(stream.encode(av.VideoFrame(6000, 6000, "rgb24")))
        container.mux(stream.encode())
    found = subprocess.run([sys.executable, "-c", TAGS, path], capture_output=True, text=True, check=True).stdout
    comment, grown = found.split()
    assert comment == "found"
    assert int(grown) < 50_000


def test_a_picture_of_very_many_texts_is_not_read(server: Server) -> None:
    def part(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)

    whole = png()
    for many, answer in ((200_000, "is not a valid picture: it has too many texts"), (100, "carries no workflow")):
        texts = b"".join(part(b"tEXt", b"%d\0x" % number) for number in range(many))
        (server.folders.output / "a.png").write_bytes(whole[:33] + texts + whole[33:])
        start = time.monotonic()
        found = server.get("/api/kinograph/outputs/workflow", filename="a.png")
        assert (found.status, answer in found.message) == (400, True)
        assert time.monotonic() - start < 2
