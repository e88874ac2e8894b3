"""Files are never served as anything that runs, and accepted only if the content fits the name."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import struct
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest
from aiohttp import FormData
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from engine import atomic
from engine.errors import UsageError
from engine.server.files.decoder import Limits
from engine.server.files.pictures import PICTURES, Pictures
from engine.server.files.previews import UPLOADS
from tests.server.conftest import Server, png

SCRIPT = b"<script>alert(1)</script>"


def video(frames: int = 3, format: str = "mp4", size: tuple[int, int] = (32, 16)) -> bytes:
    """A video file's bytes."""
    file = BytesIO()
    with av.open(file, "w", format=format) as container:
        stream = container.add_stream("libvpx" if format == "webm" else "libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for shade in range(frames):
            pixels = np.full((size[1], size[0], 3), 40 * shade, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return file.getvalue()


def opened(data: bytes) -> Image.Image:
    return Image.open(BytesIO(data))


def test_a_picture_is_served_from_each_folder(server: Server) -> None:
    for kind, folder in (
        ("output", server.folders.output),
        ("input", server.folders.input),
        ("temp", server.folders.temp),
    ):
        (folder / "sub").mkdir()
        (folder / "sub" / "a.png").write_bytes(png())
        answer = server.get("/view", filename="a.png", subfolder="sub", type=kind, rand="0.5")
        assert (answer.status, answer.body) == (200, png())
        assert answer.headers["Content-Type"] == "image/png"
        assert answer.headers["Content-Disposition"].startswith("inline")
    assert server.get("/api/view", filename="sub/a.png [temp]").body == png()
    assert server.get("/view", filename="b.png").status == 404
    assert server.get("/view").status == 400
    assert server.get("/view", filename="a.png", type="models").status == 400


@pytest.mark.parametrize(
    "name",
    [
        "a.svg",
        "a.html",
        "a.htm",
        "a.xhtml",
        "a.xml",
        "a.js",
        "a.mjs",
        "a.css",
        "a.pdf",
        "a.swf",
        "a.exe",
        "a",
        "a.PNG.svg",
    ],
)
def test_nothing_is_served_that_a_browser_runs(server: Server, name: str) -> None:
    (server.folders.output / name).write_bytes(SCRIPT)
    answer = server.get("/view", filename=name)
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(("name", "type"), [("a.txt", "text/plain"), ("a.png", "image/png"), ("a.csv", "text/plain")])
def test_a_page_with_another_ending_is_served_as_its_ending_says(server: Server, name: str, type: str) -> None:
    (server.folders.output / name).write_bytes(SCRIPT)
    answer = server.get("/view", filename=name)
    assert answer.headers["Content-Type"].startswith(type)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("ending", sorted(PICTURES))
def test_every_picture_that_may_be_uploaded_is_shown_as_one(server: Server, ending: str) -> None:
    (server.folders.input / f"a{ending}").write_bytes(png())
    headers = server.get("/view", filename=f"a{ending}", type="input").headers
    assert headers["Content-Type"].startswith("image/")
    assert headers["Content-Disposition"].startswith("inline")


def test_a_name_cant_break_out_of_a_header(server: Server) -> None:
    name = 'a"; filename=b.html; é.png'
    (server.folders.output / name).write_bytes(png())
    answer = server.get("/view", filename=name)
    assert answer.headers["Content-Disposition"] == (
        "inline; filename*=UTF-8''a%22%3B%20filename%3Db.html%3B%20%C3%A9.png"
    )


def test_a_video_is_served_in_ranges_and_revalidated(server: Server) -> None:
    (server.folders.output / "a.mp4").write_bytes(bytes(range(100)))

    def part(**headers: str) -> tuple[int, bytes]:
        answer = server.get("/view", {name.replace("_", "-"): text for name, text in headers.items()}, filename="a.mp4")
        return answer.status, answer.body

    whole = server.get("/view", filename="a.mp4")
    assert (whole.headers["Content-Type"], whole.headers["Accept-Ranges"]) == ("video/mp4", "bytes")
    assert part(Range="bytes=10-12") == (206, bytes([10, 11, 12]))
    assert part(Range="bytes=-2") == (206, bytes([98, 99]))
    assert part(Range="bytes=200-")[0] == 416
    assert part(If_None_Match=whole.headers["ETag"]) == (304, b"")
    assert whole.headers["Cache-Control"] == "private, no-cache"
    assert server.ask("HEAD", "/view?filename=a.mp4").headers["Content-Length"] == "100"


def test_a_preview_is_a_smaller_file_of_the_same_picture(server: Server) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(server.folders.output / "a.png")
    for wanted in ("webp", "jpeg"):
        answer = server.get("/view", filename="a.png", preview=f"{wanted};50")
        assert answer.headers["Content-Type"] == f"image/{wanted}"
        assert (opened(answer.body).format, opened(answer.body).size) == (wanted.upper(), (64, 64))
        assert len(answer.body) < (server.folders.output / "a.png").stat().st_size
        assert len(server.get("/view", filename="a.png", preview=wanted).body) > len(answer.body)
    for wrong in ("svg", "webp;0", "webp;101", "jpeg;", "exe;90"):
        assert server.get("/view", filename="a.png", preview=wrong).status == 400


def test_single_channels_of_a_picture_are_served(server: Server) -> None:
    Image.new("RGBA", (4, 4), (200, 100, 50, 77)).save(server.folders.output / "a.png")

    def pixel(channel: str) -> object:
        image = opened(server.get("/view", filename="a.png", channel=channel).body)
        return image.mode, image.getpixel((0, 0))

    assert pixel("rgb") == ("RGB", (200, 100, 50))
    assert pixel("a") == ("RGBA", (0, 0, 0, 77))
    assert pixel("rgba") == ("RGBA", (200, 100, 50, 77))


def test_a_picture_is_shown_upright(server: Server) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90°
    Image.new("RGB", (8, 4)).save(server.folders.output / "a.jpg", exif=exif)
    assert opened(server.get("/view", filename="a.jpg", preview="webp").body).size == (4, 8)
    assert opened(server.get("/api/kinograph/thumbnail", filename="a.jpg").body).size == (4, 8)


def test_only_pictures_have_previews(server: Server) -> None:
    (server.folders.output / "a.png").write_bytes(SCRIPT)
    (server.folders.output / "b.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    for name in ("a.png", "b.eps"):
        assert "not a picture" in server.get("/view", filename=name, preview="webp").message
        assert "not a picture" in server.get("/view", filename=name, channel="rgb").message


def test_only_the_metadata_of_weights_is_served(server: Server) -> None:
    loras = server.folders.models / "loras"
    loras.mkdir()
    header = json.dumps({"__metadata__": {"ss_tag": "snail"}, "w": {"dtype": "F32"}}).encode()
    (loras / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"weights")
    (loras / "none.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")
    (loras / "large.safetensors").write_bytes(struct.pack("<Q", 1 << 40) + b"{}")
    (loras / "torn.safetensors").write_bytes(b"\x09")
    (loras / "a.pkl").write_bytes(header)

    def ask(name: str, folder: str = "loras") -> tuple[int, object]:
        answer = server.get(f"/view_metadata/{folder}", filename=name)
        return answer.status, answer.json

    assert ask("a.safetensors") == (200, {"ss_tag": "snail"})
    assert [ask(name)[0] for name in ("none.safetensors", "nothing.safetensors")] == [404, 404]
    assert [ask(name)[0] for name in ("large.safetensors", "torn.safetensors", "a.pkl")] == [400, 400, 400]
    assert ask("a.safetensors", "..%2f..")[0] == 400
    assert ask("../../data/x.safetensors")[0] == 400


@pytest.mark.parametrize(("size", "status"), [(8 << 20, 200), ((8 << 20) + 1, 400)])
def test_metadata_is_read_from_a_header_of_eight_megabytes_at_most(server: Server, size: int, status: int) -> None:
    header = json.dumps({"__metadata__": {"ss_tag": "snail"}}).encode().ljust(size)
    path = server.folders.models / "loras" / "a.safetensors"
    path.parent.mkdir()
    path.write_bytes(size.to_bytes(8, "little") + header)
    answer = server.get("/view_metadata/loras", filename="a.safetensors")
    assert answer.status == status
    assert status == 200 or "too large" in answer.message


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (png(), "a.png"),
        (png(format="JPEG"), "a.JPG"),
        (png(format="WEBP"), "a.webp"),
        (png(format="GIF"), "a.gif"),
        (png(format="BMP"), "a.bmp"),
        (png(format="TIFF"), "a.tiff"),
        (video(), "a.mp4"),
        (video(format="webm"), "a.webm"),
        (video(format="matroska"), "Grüße 世界.mkv"),
        (video(format="mpegts"), "a.ts"),
        (video(format="flv"), "a.flv"),
        (video(format="h264"), "a.h264"),
        (video(format="matroska"), "called wrongly.mp4"),
        (png(format="AVIF"), "a.avif"),
        (png(), "a.apng"),
        (png(format="JPEG"), "a.jfif"),
        (png(format="JPEG"), "called wrongly.png"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_pictures_and_videos_are_accepted(server: Server, data: bytes, name: str) -> None:
    answer = server.upload(data, name, subfolder="mine//sub")
    assert answer.json == {"name": name, "subfolder": "mine/sub", "type": "input"}
    assert server.get("/view", filename=name, subfolder="mine/sub", type="input").body == data
    assert left_behind(server) == []


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (SCRIPT, "a.png"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "a.svg"),
        (SCRIPT, "a.html"),
        (b"#!/bin/sh", "a.sh"),
        (b"\x80\x04.", "a.pkl"),
        (b"\xff\xfea", "a.txt"),
        (b"a\0b", "a.txt"),
        (b"a" * 1_000_001, "a.txt"),
        (b"{}", "a.json"),
        (struct.pack("<Q", 2) + b"{}", "a.safetensors"),
        (png(), "a"),
        (png(), "a.png.exe"),
        (png(), "a.png [output]"),
        (png()[:48], "torn.png"),
        (png((64, 64), format="JPEG")[:-80], "torn.jpg"),
        (png(), "a.mp4"),
        (video(), "a.png"),
        (video()[:200], "torn.mp4"),
        (b"const a = 1;\n", "a.ts"),
        (video(), "a.txt"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "a.png"),
        (b"", "a.png"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_nothing_else_is_accepted(server: Server, data: bytes, name: str) -> None:
    answer = server.upload(data, name)
    assert answer.status == 400
    assert answer.message
    assert left_behind(server) == []
    assert server.get("/api/kinograph/files").json == []


def test_what_a_wrongly_named_file_is_is_said(server: Server) -> None:
    assert "this is not a video but a PNG picture" in server.upload(png(), "a.mp4").message
    assert "this is not a picture but an MP4 file" in server.upload(video(), "a.png").message


@pytest.mark.parametrize("name", ["prompts.txt", "prompts.md", "prompts.CSV"])
def test_a_text_is_stored_and_shown_as_nothing_else(server: Server, name: str) -> None:
    data = "\ufeffa red snail\r\n<script>alert(1)</script>".encode()
    stored = server.upload(data, name).json
    assert (server.folders.input / stored["name"]).read_bytes() == data
    answer = server.get("/view", filename=name, type="input")
    assert (answer.headers["Content-Type"], answer.body) == ("text/plain; charset=utf-8", data)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_a_playlist_cannot_make_the_server_read_files(server: Server, tmp_path: Path) -> None:
    (tmp_path / "secret.ts").write_bytes(video())
    listed = f"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:1.0,\nfile://{tmp_path}/secret.ts\n#EXT-X-ENDLIST\n"
    joined = f"ffconcat version 1.0\nfile {tmp_path}/secret.ts\n"
    for data in (listed, joined):
        for name in ("a.mp4", "a.webm", "a.avi"):
            assert server.upload(data.encode(), name).status == 400


def test_a_picture_that_unpacks_to_too_much_is_refused(server: Server) -> None:
    small = png((9000, 9000), mode="1")
    assert len(small) < 100_000
    for answer in (server.upload(small, "a.png"), server.upload(small, "b.png", "/upload/image", type="temp")):
        assert (answer.status, "too large" in answer.message) == (400, True)
    (server.folders.output / "a.png").write_bytes(small)
    assert server.get("/view", filename="a.png", preview="webp").status == 400
    assert server.get("/api/kinograph/thumbnail", filename="a.png").status == 400


def test_frames_that_are_larger_than_their_container_says_are_not_decoded(server: Server) -> None:
    lying = video(size=(64, 64)).replace(b"\0\x40\0\x40", b"\0\x02\0\x02")  # in the sample description
    server.app[UPLOADS].limits = Limits(pixels=2500)
    assert server.upload(lying, "a.mp4").status == 400
    assert server.upload(video(size=(32, 16)), "b.mp4").status == 200


def test_an_upload_that_ends_while_another_starts_does_not_disturb_it(server: Server) -> None:
    waiting = server.folders.input / ".unfinished"
    waiting.mkdir()
    (waiting / "listed.part").symlink_to("gone by now")
    assert server.upload(png(), "snail.png").status == 200


def test_an_upload_replaces_no_file_unless_asked_to(server: Server) -> None:
    first, second, third = png(colour="red"), png(colour="green"), png(colour="blue")
    names = [server.upload(data, "a.png").json["name"] for data in (first, second, third, first, second)]
    assert names == ["a.png", "a (1).png", "a (2).png", "a.png", "a (1).png"]
    assert server.upload(third, "a.png", overwrite="true").json["name"] == "a.png"
    assert (server.folders.input / "a.png").read_bytes() == third
    assert len(server.get("/api/kinograph/files").json) == 3
    (server.folders.input / "b.png").mkdir()
    assert server.upload(first, "b.png").json["name"] == "b (1).png"
    assert "can't be stored" in server.upload(first, "b.png", overwrite="1").message
    assert "can't be stored" in server.upload(first, "c.png", subfolder="a.png").message
    assert left_behind(server) == []


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("../a.png", {}),
        ("a/../../b.png", {}),
        ("..\\a.png", {}),
        ("%2e%2e%2fa.png", {}),
        (".a.png", {}),
        ("a.png", {"subfolder": "../models"}),
        ("a.png", {"subfolder": "/tmp"}),
        ("a.png", {"subfolder": "a/../../b"}),
        ("a.png", {"type": "models"}),
        ("a.png", {"type": "../data"}),
        ("con.png", {}),
        ("a" * 300 + ".png", {}),
    ],
)
def test_no_upload_leads_out_of_its_folder(server: Server, name: str, fields: dict[str, str]) -> None:
    before = {path for path in server.folders.input.parent.rglob("*") if path.name != ".unfinished"}
    assert server.upload(png(), name, overwrite="true", **fields).status == 400
    assert {path for path in server.folders.input.parent.rglob("*") if path.name != ".unfinished"} == before


def test_an_upload_through_a_link_that_leads_out_is_refused(server: Server, tmp_path: Path) -> None:
    (server.folders.input / "away").symlink_to(tmp_path)
    (server.folders.input / "a.png").symlink_to(tmp_path / "a.png")
    assert server.upload(png(), "b.png", subfolder="away").status == 400
    assert server.upload(png(), "a.png", overwrite="true").status == 400
    assert not list(tmp_path.glob("*.png"))


def test_an_upload_that_is_too_large_is_refused(server: Server) -> None:
    limit = server.settings.upload_limit
    assert server.upload(bytes(limit + 1), "a.png").status == 413
    assert server.upload(bytes(limit * 3), "a.png").status == 413
    assert server.upload(png(), "a.png", subfolder="a" * (1 << 17)).status == 413
    form = FormData(quote_fields=False)
    for number in range(40):
        form.add_field(f"field{number}", "text")
    form.add_field("image", png(), filename="a.png")
    assert server.ask("POST", "/upload/image", data=form).status == 400
    assert left_behind(server) == []


@pytest.mark.parametrize(
    ("type", "data"),
    [
        ("application/json", b"{}"),
        ("multipart/form-data", b""),
        ("multipart/form-data; boundary=x", b""),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Dis"),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\n--x--"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\na\r\n--x--\r\n',
        ),
        ("multipart/mixed; boundary=x", b"--x\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y--\r\n--x--\r\n"),
    ],
)
def test_a_body_that_is_no_form_is_refused(server: Server, type: str, data: bytes) -> None:
    assert server.ask("POST", "/upload/image", data=data, headers={"Content-Type": type}).status == 400
    assert left_behind(server) == []


def test_an_aborted_upload_leaves_nothing(server: Server) -> None:
    head = b"POST /upload/image HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n"
    start = b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\nContent-Disposition: form-data; name=image; "

    async def break_off() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", server.client.port)
        writer.write(head + start + b"filename=a.png\r\n\r\n" + bytes(300_000))
        await writer.drain()
        while not left_behind(server):
            await asyncio.sleep(0.01)
        writer.close()

    server.runner.run(break_off())
    server.wait(lambda: not left_behind(server))
    assert server.get("/api/kinograph/files").json == []


def test_abandoned_uploads_are_removed_eventually(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = server.folders.input / ".unfinished"
    waiting.mkdir()
    (waiting / "old.part").write_bytes(b"half")
    server.upload(png(), "a.png")
    assert (waiting / "old.part").exists()
    monkeypatch.setattr("engine.server.comfyui.files.ABANDONED_SECONDS", -1)
    server.upload(png(), "a.png")
    assert not (waiting / "old.part").exists()


def test_a_mask_gives_a_picture_its_opacity_and_keeps_its_workflow(server: Server) -> None:
    texts = PngInfo()
    texts.add_text("workflow", '{"kinograph": 1, "graph": {}}')
    Image.new("RGB", (8, 6), "red").save(server.folders.output / "a.png", pnginfo=texts)
    mask = png((8, 6), (0, 0, 0, 99), mode="RGBA")  # type: ignore[arg-type]
    original = json.dumps({"filename": "a.png", "type": "output"})
    answer = server.upload(mask, "masked.png", "/upload/mask", original_ref=original, subfolder="clipspace")
    assert answer.json == {"name": "masked.png", "subfolder": "clipspace", "type": "input"}
    image = Image.open(server.folders.input / "clipspace" / "masked.png")
    assert (image.mode, image.getpixel((0, 0))) == ("RGBA", (255, 0, 0, 99))
    assert image.info["workflow"] == '{"kinograph": 1, "graph": {}}'
    assert left_behind(server) == []


@pytest.mark.parametrize(
    "original",
    [
        "",
        "[]",
        "{}",
        "nonsense",
        '{"filename": "../secret.png"}',
        '{"filename": "a.png", "subfolder": "../.."}',
        '{"filename": "a.png", "type": "models"}',
        '{"filename": "nothing.png"}',
        '{"filename": "small.png"}',
        '{"filename": "page.png"}',
    ],
)
def test_a_mask_needs_an_existing_picture_of_its_size(server: Server, original: str) -> None:
    (server.folders.output / "small.png").write_bytes(png((4, 4)))
    (server.folders.output / "page.png").write_bytes(SCRIPT)
    assert server.upload(png(), "masked.png", "/upload/mask", original_ref=original).status in (400, 404)
    assert server.get("/api/kinograph/files").json == []
    assert left_behind(server) == []


def test_files_are_listed(server: Server) -> None:
    server.upload(png(), "a.png", subfolder="sub")
    (server.folders.output / "b.txt").write_text("text")
    (file,) = server.get("/api/kinograph/files").json
    modified = (server.folders.input / "sub" / "a.png").stat().st_mtime
    assert file == {
        "filename": "a.png",
        "subfolder": "sub",
        "type": "input",
        "size": len(png()),
        "modified": pytest.approx(modified),
    }
    assert [file["filename"] for file in server.get("/api/kinograph/files", type="output").json] == ["b.txt"]
    assert server.get("/api/kinograph/files", type="models").status == 400


def test_any_error_of_a_decoder_becomes_a_refusal(tmp_path: Path) -> None:
    valid = {".png": png((32, 32)), ".webp": png(format="WEBP"), ".gif": png(format="GIF"), ".mp4": video()}
    rng = np.random.default_rng(0)
    for suffix, data in valid.items():
        for _ in range(60):
            torn = bytearray(data)
            for place in rng.integers(0, len(data), 8):
                torn[place] = rng.integers(256)
            path = tmp_path / f"a{suffix}"
            path.write_bytes(torn[: rng.integers(1, len(data) + 1)])
            with suppress(UsageError):
                Pictures(1 << 20).check(path, suffix)


def left_behind(server: Server) -> list[Path]:
    """Unfinished files that an upload left."""
    root = server.folders.input
    return [path for path in root.rglob("*") if path.is_file() and (path.name[0] == "." or path.parent.name[0] == ".")]


@pytest.mark.parametrize("has_links", [True, False])
def test_a_name_is_given_to_one_file_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool) -> None:
    def refuse(*names: Path) -> None:
        raise PermissionError(errno.EPERM, "this file system has no links")

    if not has_links:
        monkeypatch.setattr(os, "link", refuse)
    first, second, name = (tmp_path / part for part in ("1.part", "2.part", "snail.png"))
    first.write_bytes(b"first")
    second.write_bytes(b"second")
    atomic.rename_noreplace(first, name)
    with pytest.raises(FileExistsError):
        atomic.rename_noreplace(second, name)
    assert (name.read_bytes(), first.exists(), second.read_bytes()) == (b"first", False, b"second")
