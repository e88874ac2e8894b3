"""In a notebook: bars, pictures in place, and kinds of node that are defined in cells."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

import kinograph
from engine.events import Event
from kinograph import Graph, progress
from kinograph.display import MOST_LETTERS, html_of_file, html_of_value
from tests.engine.toys import Fail, Number, SaveNumber
from tests.kinograph.notebook import Shell

OWN = """
class Times(kinograph.Node, version=1):
    a: int
    def run(self, ctx: kinograph.Context) -> int:
        calls.append(self.a)
        return self.a * factor()
"""


def session(*sources: str) -> list[list[str]]:
    """What the cells of a notebook show, one kernel for all."""
    command = [sys.executable, "-m", "tests.kinograph.notebook"]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        command, input=json.dumps(sources), capture_output=True, text=True, cwd=root, env=None, check=False
    )
    assert done.returncode == 0, done.stderr
    shown: list[list[str]] = json.loads(done.stdout.splitlines()[-1])
    return shown


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Shell:
    shell = Shell()
    for name, module in shell.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    return shell


def pixels(html: str) -> PIL.Image.Image:
    """The picture in a piece of HTML."""
    data = html.partition("base64,")[2].partition("'")[0]
    return PIL.Image.open(io.BytesIO(base64.b64decode(data)))


class TestCells:
    def test_a_kind_that_is_defined_anew_is_run_anew_and_one_that_is_not_is_not(self) -> None:
        shown = session(
            f"import kinograph\ncalls = []\ndef factor(): return 2\n{OWN}",
            "g = kinograph.Graph()\ntimes = g.add(Times, a=5)\ng.run(progress=False)[times], calls",
            "g.run(progress=False)[times], calls",
            "def factor(): return 3\ng.run(progress=False)[times], calls",
            f"calls.clear()\n{OWN.replace('self.a * factor()', 'self.a')}",
            "g.add(Times, a=6)\ng.run(progress=False)[times], calls",
            f"calls.clear()\n{OWN}\ng.add(Times, a=7)\ng.run(progress=False)[times], calls",
        )
        assert [outputs[-1:] for outputs in shown] == [
            [],
            ["(10, [5])"],
            ["(10, [5])"],
            ["(15, [5, 5])"],
            [],
            ["(5, [5, 6])"],
            ["(15, [6, 7])"],
        ]

    def test_what_they_gave_outlives_the_kernel_as_long_as_their_code_does(self) -> None:
        cell = f"import kinograph\ncalls = []\ndef factor(): return 2\n{OWN}\ng = kinograph.Graph()\n"
        cell += "t = g.add(Times, a=5)\nkinograph.run(g, until=t, progress=False)[t], calls"
        assert session(cell) == [["(10, [5])"]]
        assert session(cell.replace("factor(): return", "factor():\n    # the factor\n    return")) == [["(10, [])"]]
        assert session(cell.replace("return 2", "return 4")) == [["(20, [5])"]]


class TestBars:
    def test_one_output_is_drawn_anew_and_ends_with_what_the_run_came_to(self, shell: Shell) -> None:
        g = Graph()
        g.KeyframeSampler(model=g.ImageModelLoad(source="sprite/sdxl"), prompt="<b>a red fish", steps=3, title="<i>")
        seen: list[str] = []
        g.run(on_event=lambda event: seen.extend(shell.outputs))
        assert len(shell.outputs) == 1
        assert "done in" in shell.outputs[0]
        assert "2 nodes ran" in shell.outputs[0]
        assert any("<progress" in html and "&lt;i&gt; (keyframe_sampler)" in html for html in seen)
        assert not any("<i>" in html for html in seen)

    def test_what_goes_wrong_before_the_run_leaves_no_bars(self, shell: Shell) -> None:
        with pytest.raises(kinograph.WorkflowError):
            kinograph.run({"n": {"class_type": "Nothing"}})
        assert shell.outputs == [""]

    def test_what_ends_a_run_leaves_no_bars(self, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
        class Steps(kinograph.Node, version=1):
            def run(self, ctx: kinograph.Context) -> int:
                ctx.progress(1, 3)
                return 1

        def watch(event: Event) -> None:
            if "<progress" in shell.outputs[0]:
                raise KeyboardInterrupt

        monkeypatch.setattr(progress, "SECONDS", 0)
        g = Graph(nodes=[Steps])
        g.Steps()
        with pytest.raises(KeyboardInterrupt):
            g.run(on_event=watch)
        assert "<progress" not in shell.outputs[0]

    def test_a_failure_stays_to_be_seen(self, shell: Shell) -> None:
        g = Graph(nodes=[Fail])
        g.Fail()
        with pytest.raises(kinograph.NodeError):
            g.run()
        assert "failed in" in shell.outputs[0]

    def test_they_can_be_done_without(self, shell: Shell) -> None:
        g = Graph(nodes=[Number])
        g.Number()
        g.run(progress=False)
        assert shell.outputs == []


class TestElsewhere:
    def test_plain_lines_tell_of_the_run(self, capsys: pytest.CaptureFixture[str]) -> None:
        g = Graph(nodes=[Number])
        g.Number(title="A number")
        g.run()
        out, told = capsys.readouterr()
        assert out == ""
        assert "A number (number): started" in told
        assert "done in" in told

    def test_or_nothing_does(self, capsys: pytest.CaptureFixture[str]) -> None:
        g = Graph(nodes=[Number])
        g.Number()
        g.run(progress=False)
        assert capsys.readouterr() == ("", "")


class TestPictures:
    def test_results_show_pictures_texts_and_values_in_place(self) -> None:
        g = Graph(nodes=[SaveNumber])
        grey = g.EmptyImage(width=8, height=4, batch_size=2, color=0x808080)
        g.SaveImage(images=grey, id="<pictures>")
        g.SaveNumber(number=5)
        html = g.run(progress=False)._repr_html_()
        assert html.count("<img src='data:image/png;base64,") == 2
        assert "&lt;pictures&gt;" in html
        assert pixels(html).size == (8, 4)
        assert "<pre style='white-space:pre-wrap'>5</pre>" in html

    def test_a_file_shows_itself(self) -> None:
        g = Graph(nodes=[SaveNumber])
        pictures = g.SaveImage(images=g.EmptyImage(width=8, height=4))
        number = g.SaveNumber(number=5)
        results = g.run(progress=False)
        (file,), (text,) = results[pictures], results[number]
        assert file._repr_png_() == file.path.read_bytes()
        assert file._repr_html_() is None
        assert text._repr_png_() is None
        assert ">5<" in str(text._repr_html_())
        file.path.unlink()
        assert file._repr_png_() is None
        assert str(file.path) in results._repr_html_()

    def test_pictures_and_videos_that_nodes_gave_are_shown_as_such(self, shell: Shell) -> None:
        g = Graph()
        images = g.EmptyImage(width=8, height=4, batch_size=3)
        video = g.CreateVideo(images=images)
        with kinograph.Session() as session:
            results = session.run(g, until=[images, video], progress=False)
        assert shell.result(results[images]).count("<img") == 3
        assert shell.result(results[video]).startswith("<video src='data:video/mp4;base64,")

    @pytest.mark.parametrize(
        ("value", "html"),
        [
            ("<b>", "<pre style='white-space:pre-wrap'>&lt;b&gt;</pre>"),
            (5, "<code>5</code>"),
            ("x" * (MOST_LETTERS + 1), f"<pre style='white-space:pre-wrap'>{'x' * MOST_LETTERS}…</pre>"),
        ],
    )
    def test_what_is_no_picture_is_told(self, value: Any, html: str) -> None:
        assert html_of_value(value) == html

    def test_of_a_long_list_the_first_are_shown(self) -> None:
        html = html_of_value(tuple(range(100)))
        assert html.count("<code>") == 24
        assert "and 76 more" in html

    def test_what_is_large_or_of_another_type_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        drawing, table = tmp_path / "x.svg", tmp_path / "x.csv"
        drawing.write_text("<script>alert(1)</script>")
        table.write_text("a,b\n")
        assert html_of_file(drawing, "image/svg+xml") == f"<code>{drawing}</code> (25 B)"
        assert "a,b" in html_of_file(table, "text/csv")
        monkeypatch.setattr("kinograph.display.MOST_BYTES", 3)
        assert html_of_file(table, "text/csv") == f"<code>{table}</code> (4 B)"
        assert html_of_file(tmp_path / "gone.png", "image/png") == f"<code>{tmp_path / 'gone.png'}</code>"
