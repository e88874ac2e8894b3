"""A picture is uploaded under the same name while a job is under way."""

from __future__ import annotations

from pathlib import Path

from tests.server.conftest import png
from tests.server.live import Live, live, saving


def upload(server: Live, colour: str) -> None:
    head = b'--x\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n'
    body = head % (b"image", b'; filename="ref.png"') + png(colour=colour) + b"\r\n"
    body += head % (b"overwrite", b"") + b"true\r\n--x--\r\n"
    status, answer = server.ask("POST", "/upload/image", body, {"Content-Type": "multipart/form-data; boundary=x"})
    assert (status, answer["name"]) == (200, "ref.png")


def test_no_later_job_gets_what_was_made_of_the_other_picture(tmp_path: Path) -> None:
    graph = saving("LateLook", picture="ref.png")

    def looked(server: Live, job: str) -> str:
        (saved,) = server.ended(job)["outputs"]["2"]["texts"]
        return (tmp_path / "output" / saved["subfolder"] / saved["filename"]).read_text()

    with live(tmp_path) as server:
        upload(server, "red")
        job = server.submit(graph)
        server.running(job)
        upload(server, "blue")
        assert looked(server, job) == "(0, 0, 255)"
        (warning,) = server.job(job)["record"]["warnings"]
        assert warning["message"] == "'ref.png' was changed or replaced during the run"
        upload(server, "red")
        assert looked(server, again := server.submit(graph)) == "(255, 0, 0)"
        assert server.job(again)["record"]["warnings"] == []
