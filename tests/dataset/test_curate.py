"""Folders of videos become data sets: in one go, after an interruption, and with other rules."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from engine.document.prepared import prepare
from engine.document.reading import read
from engine.document.settings import with_setting
from engine.document.workflow import Workflow
from engine.errors import InputError, MissingError
from engine.events import NodeFailed, NodeSaved
from engine.graph.check import check
from engine.node import Context
from engine.run.execute import Execution
from engine.run.saving import OutputFolder
from engine.store.cache import Cache
from engine.store.disk import Disk
from nodes import registry
from nodes.dataset import curate as curating
from nodes.dataset import sources
from nodes.dataset.curate import CurationSettings, KeptParts
from nodes.dataset.describe.describer import Describer, DescribeSettings
from nodes.dataset.nodes import LoadScores, SaveDataset, VideoFrameFilter
from nodes.dataset.scan import processes as scanning
from nodes.dataset.scan import scanner as scan
from nodes.dataset.scan.processes import Scanners
from nodes.dataset.scan.scanner import Part, ScanSettings
from nodes.dataset.table import CLIPS, rows, to_table
from nodes.files.footage import Footage
from tests.dataset.films import REAL, song, sprites, three_shots, write

NO_MODELS: dict[str, Any] = {"clip": None, "aesthetics": None, "find_text": False, "rules": "no duplicates"}


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A folder with a video of three shots, one that repeats the second shot, and a broken one."""
    folder = tmp_path / "raw"
    (folder / "more").mkdir(parents=True)
    three_shots(folder / "shots.mp4")
    write(folder / "more" / "again.mp4", sprites(2, 3), crf="30")
    (folder / "broken.mp4").write_bytes(b"\0" * 1000)
    (folder / "notes.txt").write_text("no video")
    return folder


def test_a_part_of_a_video_or_model_that_was_replaced_meanwhile_is_not_kept(raw: Path, tmp_path: Path) -> None:
    kept: dict[str, Any] = {}
    head = tmp_path / "head.safetensors"
    head.write_bytes(b"head")
    ctx = Context(keep=lambda name, outputs, seconds, **_: kept.update({name: outputs}))
    describe = Describer(ctx, DescribeSettings("", str(head), "", "", "", ""), None)
    parts, file = KeptParts(ctx, CurationSettings(ScanSettings(), describe)), raw / "shots.mp4"
    part = Part(0, {}, to_table([], CLIPS), last=True)
    assert parts.described(file) == []
    parts.keep_scanned(file, part)
    parts.keep_described(file, part)
    assert len(kept) == 2
    kept.clear()
    head.write_bytes(b"another")
    parts.keep_described(file, part)
    assert not kept
    film = file.read_bytes()
    file.write_bytes(b"another")
    file.write_bytes(film)
    parts.keep_scanned(file, part)
    assert not kept


def test_a_video_that_is_replaced_while_it_is_read_is_listed_instead_of_taken(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan_of = scanning._scan

    def replacing(path: Path, *args: Any) -> scanning.PartsOrProblem:
        if path.name == "shots.mp4":
            path.write_bytes((raw / "more" / "again.mp4").read_bytes())
        return scan_of(path, *args)

    monkeypatch.setattr(scanning, "_scan", replacing)
    describe = Describer(Context(), DescribeSettings("", "", "", "", "", ""), None)
    clips, videos = curating.curate(Context(), raw, CurationSettings(ScanSettings(text=False), describe))
    assert {row["video"] for row in rows(clips)} == {"more/again.mp4"}
    problems = {row["video"]: row["problem"] for row in rows(videos)}
    assert problems["shots.mp4"] == "was changed while it was read, so it is left out: run again"
    assert problems["more/again.mp4"] == ""


def workflow(raw: Path, **inputs: Any) -> Workflow:
    save = {name: inputs.pop(name) for name in ("layout", "exact") if name in inputs}
    graph = {
        "curate": {"class_type": "LVDCurate", "inputs": {"videos": str(raw), "processes": 1} | NO_MODELS | inputs},
        "save": {
            "class_type": "SaveDataset",
            "inputs": {"clips": ["curate", "clips"], "videos": ["curate", "videos"]} | save,
        },
    }
    return Workflow.read({"graph": graph})


def run(raw: Path, cache: Cache, out: Path, **inputs: Any) -> tuple[Execution, Path]:
    execution = Execution(
        check(prepare(workflow(raw, **inputs), registry()), targets=["curate", "save"]), cache=cache, out=out
    )
    events = list(execution)
    assert not [event for event in events if isinstance(event, NodeFailed)]
    (saved,) = (event.files for event in events if isinstance(event, NodeSaved))
    return execution, saved[0]


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_folder_of_videos_becomes_a_data_set(raw: Path, tmp_path: Path) -> None:
    execution, saved = run(raw, Cache(), tmp_path / "out")
    clips, videos = (rows(table) for table in execution.results["curate"])
    assert [(clip["video"], clip["first_frame"], clip["end_frame"]) for clip in clips] == [
        ("more/again.mp4", 0, 72),
        ("shots.mp4", 0, 48),
        ("shots.mp4", 48, 120),
        ("shots.mp4", 120, 168),
    ]
    assert [clip["duplicate_of"] for clip in clips] == [None, None, "more/again.mp4#0", None]
    assert [(video["video"], video["clips"], video["frames"]) for video in videos] == [
        ("broken.mp4", 0, None),
        ("more/again.mp4", 1, 72),
        ("shots.mp4", 3, 168),
    ]
    assert "can't be opened as a video" in videos[0]["problem"]

    manifest = pq.read_table(saved / "manifest.parquet").to_pylist()
    assert [row["file"] for row in manifest] == [f"clips/00000{i}.mp4" for i in range(3)]
    assert [len(list(Footage(saved / row["file"]))) for row in manifest] == [72, 48, 48]
    assert pq.read_table(saved / "scores.parquet").num_rows == 4
    facts = json.loads((saved / "statistics.json").read_text())
    assert (facts["clips"], facts["clips_kept"], facts["videos_with_problems"]) == (4, 3, 1)
    assert facts["dropped_by"] == {"duplicates": {"clips": 1, "alone": 1}}
    page = (saved / "report.html").read_text()
    assert "shows the same as more/again.mp4#0" in page
    assert "broken.mp4" in page


def test_other_rules_decode_nothing_again(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Cache(disk=Disk(tmp_path / "cache")) as cache:
        run(raw, cache, tmp_path / "out")
    monkeypatch.setattr(scan, "CutFinder", None)
    with Cache(disk=Disk(tmp_path / "cache")) as cache:  # as another process would have it
        execution, _ = run(raw, cache, tmp_path / "out", rules="motion >= 1000", layout="none")
    assert all(row["dropped"] for row in rows(execution.results["curate"][0]))


def test_a_saved_data_set_is_filtered_again(raw: Path, tmp_path: Path) -> None:
    _, saved = run(raw, Cache(), tmp_path / "out")
    table = LoadScores(file=str(saved / "scores.parquet")).run(Context())
    found = VideoFrameFilter(source=table, rules="seconds >= 3\nno duplicates").run(Context())
    assert [(row["video"], round(row["seconds"], 6)) for row in rows(found.kept)] == [("more/again.mp4", 3)]
    pq.write_table(pq.read_table(saved / "manifest.parquet").select(["video", "motion"]), tmp_path / "few.parquet")
    few = rows(LoadScores(file=str(tmp_path / "few.parquet")).run(Context()))
    assert [row["dropped"] for row in few] == [[], [], []]
    (tmp_path / "none.parquet").write_text("none")
    with pytest.raises(InputError, match="can't be read as a table of clips"):
        LoadScores(file=str(tmp_path / "none.parquet")).run(Context())


def crash(path: Path, settings: ScanSettings, after: Part | None) -> scanning.PartsOrProblem:
    """Crash at one of the videos, as a decoder might, in a process of its own."""
    if path.name == "shots.mp4":
        os._exit(1)
    return f"{path.name} was looked at"


def test_a_video_that_crashes_its_process_affects_no_other(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "_scan_in_worker", crash)
    paths = sources.find(raw)
    with scanning.Scanners(ScanSettings(), 2, lambda path, share: None) as scanners:
        found = [wait() for wait in [scanners.start(path) for path in paths]]
    assert found[:2] == ["broken.mp4 was looked at", "again.mp4 was looked at"]
    assert found[2] == "a process ended each time that it was decoded"


def test_a_run_that_is_killed_leaves_no_processes_behind(tmp_path: Path) -> None:
    path = write(tmp_path / "long.mp4", np.concatenate([sprites(1, 4)] * 40), preset="ultrafast")
    code = (
        "import sys; from pathlib import Path; from nodes.dataset.scan.scanner import ScanSettings; "
        "from nodes.dataset.scan.processes import Scanners; "
        "s = Scanners(ScanSettings(text=False), 2, lambda *update: None); "
        "wait = s.start(Path(sys.argv[1])); print(*s._pool._processes, flush=True); wait()"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    children = [int(pid) for pid in parent.stdout.readline().split()]
    assert children
    time.sleep(1.5)  # by now they watch their parent
    parent.kill()
    parent.communicate()
    until = time.monotonic() + 10
    while any(map(is_alive, children)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not list(filter(is_alive, children))


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_only_a_new_video_is_decoded(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, scanned = Cache(), list[str]()
    run(raw, cache, tmp_path / "out")
    write(raw / "new.mp4", sprites(9, 2))
    original = Scanners.start

    def start(self: Scanners, path: Path, after: Part | None) -> Any:
        scanned.append(path.name)
        return original(self, path, after)

    monkeypatch.setattr(Scanners, "start", start)
    execution, _ = run(raw, cache, tmp_path / "out")
    assert scanned == ["broken.mp4", "new.mp4"]
    assert len(rows(execution.results["curate"][0])) == 5


def test_processes_change_nothing(raw: Path, tmp_path: Path) -> None:
    one, two = (run(raw, Cache(), tmp_path / str(count), processes=count)[1] for count in (1, 2))
    differing = {name for name, data in bytes_of(one).items() if bytes_of(two)[name] != data}
    assert differing == {"workflow.json"}


@pytest.mark.full
def test_a_killed_run_is_resumed_and_gives_the_same_files(raw: Path, tmp_path: Path) -> None:
    for seed in range(4, 8):
        write(raw / f"{seed}.mp4", sprites(seed, 3))
    file = tmp_path / "workflow.json"
    file.write_text(json.dumps(workflow(raw).document()))
    _, whole = run(raw, Cache(), tmp_path / "whole")

    def command(out: str) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", "engine.cli", "run", str(file), "--out", str(tmp_path / out)]
        environment = os.environ | {"KINOGRAPH_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
        return subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    cached, kills = tmp_path / "home" / "cache", 0
    while kills < 2:
        process = command("out")
        before = len(list(cached.glob("*.safetensors")))
        while process.poll() is None and len(list(cached.glob("*.safetensors"))) <= before:
            time.sleep(0.005)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    assert kills > 0
    assert command("out").wait() == 0
    (saved,) = sorted((tmp_path / "out").glob("dataset_*"))[-1:]
    assert bytes_of(saved).keys() == bytes_of(whole).keys()
    differing = {name for name, data in bytes_of(saved).items() if bytes_of(whole)[name] != data}
    assert differing <= {"workflow.json"}


@pytest.mark.parametrize("cuts", ["transnet", "both"])
def test_transnet_finds_shots_or_confirms_them(cuts: str, raw: Path, tmp_path: Path) -> None:
    execution, _ = run(raw / "shots.mp4", Cache(), tmp_path / "out", cuts=cuts, layout="none")
    assert [clip["first_frame"] for clip in rows(execution.results["curate"][0])] == [0, 48, 120]


def test_clips_are_copied_from_key_frames_on(raw: Path, tmp_path: Path) -> None:
    execution, saved = run(raw, Cache(), tmp_path / "out", at_key_frames=True, exact=False)
    source = list(Footage(raw / "shots.mp4"))
    first = next(clip for clip in rows(execution.results["curate"][0]) if clip["video"] == "shots.mp4")
    copied = list(Footage(saved / "clips" / "000001.mp4"))
    for frame, original in zip(copied, source[first["first_frame"] :], strict=False):
        assert np.array_equal(frame.picture, original.picture)
    assert 44 <= len(copied) <= 48


def test_shards_are_what_webdataset_reads(raw: Path, tmp_path: Path) -> None:
    _, saved = run(raw, Cache(), tmp_path / "out", layout="webdataset")
    with tarfile.open(saved / "shards" / "00000.tar") as shard:
        assert [entry.name for entry in shard][:4] == ["000000.mp4", "000000.txt", "000000.json", "000001.mp4"]
        clip, about = shard.extractfile("000001.mp4"), shard.extractfile("000001.json")
        assert clip is not None
        assert about is not None
        (tmp_path / "clip.mp4").write_bytes(clip.read())
        assert json.load(io.TextIOWrapper(about))["end_frame"] == len(list(Footage(tmp_path / "clip.mp4"))) == 48


def test_long_shots_are_cut_into_equal_parts_and_short_ones_left_out(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", sprites(1, 9))
    write(tmp_path / "b.mp4", sprites(2, 0.8))
    execution, _ = run(tmp_path, Cache(), tmp_path / "out", longest=2.0)
    clips = rows(execution.results["curate"][0])
    assert {clip["video"] for clip in clips} == {"a.mp4"}
    assert sum(clip["seconds"] for clip in clips) == pytest.approx(9, abs=0.1)
    assert all(1 < clip["seconds"] <= 2.05 for clip in clips)


def scanned(path: Path, **settings: Any) -> list[tuple[int, int]]:
    found = scan.scan(path, ScanSettings(text=False, **settings)).clips
    return [(clip["first_frame"], clip["end_frame"]) for clip in found]


def test_a_film_that_closes_with_a_fade(tmp_path: Path) -> None:
    shot = sprites(1, 3).astype(float)
    shot[-24:] *= np.linspace(1, 0, 24)[:, None, None, None]
    ((first, end),) = scanned(write(tmp_path / "a.mp4", shot.round().astype(np.uint8)))
    assert first == 0
    assert 44 <= end <= 54


def test_short_shots_after_a_long_still_one_have_views_of_their_own(tmp_path: Path) -> None:
    still = np.repeat(sprites(1)[:1], 900, axis=0)
    shots = [still, *(sprites(seed, seconds, fps=10) for seed, seconds in ((2, 1.5), (3, 4), (4, 1.2)))]
    path = write(tmp_path / "a.mp4", np.concatenate(shots), fps=10, preset="ultrafast")
    clips = scan.scan(path, ScanSettings(text=False)).clips
    assert [clip["first_frame"] for clip in clips] == [0, 900, 915, 955]
    assert all(len(set(clip["views"])) > 1 for clip in clips[1:])


def test_parts_are_as_long_as_asked_for_at_broadcast_rates_and_never_too_short(tmp_path: Path) -> None:
    film, times = np.concatenate([sprites(1)[:24]] * 26), [i / 29.97 for i in range(624)]
    parts = scanned(write(tmp_path / "a.mp4", film, fps=30, times=times), longest=4.0)
    lengths = [(end - first) / 29.97 for first, end in parts]
    assert lengths[:3] == pytest.approx([4] * 3, abs=0.05)
    assert all(2 < length < 4.05 for length in lengths)
    assert sum(end - first for first, end in parts) == 624
    assert len(scanned(write(tmp_path / "b.mp4", sprites(2, 5)), longest=4.0, shortest=3.0)) == 1


def test_recordings_that_were_joined_keep_their_length(tmp_path: Path) -> None:
    one = write(tmp_path / "one.ts", sprites(1, 2)).read_bytes()
    (tmp_path / "two.ts").write_bytes(one + one)
    assert list(Footage(tmp_path / "two.ts"))[-1].time == pytest.approx(4, abs=0.3)


def test_odd_files_are_listed_and_the_others_go_on(raw: Path, tmp_path: Path) -> None:
    data = (raw / "shots.mp4").read_bytes()
    (raw / "unknown.mp4").write_bytes(data.replace(b"avc1", b"zzzz"))
    (raw / "text.mp4").write_text("ffconcat version 1.0\nfile shots.mp4\n")
    (raw / "[x] shots.mp4").write_bytes(data)
    Path(os.fsdecode(os.fsencode(raw) + b"/caf\xe9.mp4")).write_bytes(data)
    execution, _ = run(raw, Cache(), tmp_path / "out", layout="none")
    problems = {row["video"]: row["problem"] for row in rows(execution.results["curate"][1])}
    assert not problems["[x] shots.mp4"]
    assert "codec" in problems["unknown.mp4"]
    assert problems["text.mp4"]
    assert "UTF-8" in problems["caf\\xe9.mp4"]
    assert sources.find(raw / "[x] shots.mp4") == [raw / "[x] shots.mp4"]
    assert sources.root(raw / "**" / "*.mp4") == raw


def test_a_clip_that_can_not_be_cut_is_left_out(raw: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = Cache()
    execution, _ = run(raw, cache, tmp_path / "out", layout="none")
    write(raw / "more" / "again.mp4", sprites(2, 0.5))
    folder = SaveDataset(clips=execution.results["curate"][0]).run(Context())
    (saved,) = OutputFolder(tmp_path / "saved", Workflow.read({"graph": {}})).write(folder)
    manifest = pq.read_table(saved / "manifest.parquet").to_pylist()
    assert [row["video"] for row in manifest] == ["shots.mp4", "shots.mp4"]
    assert "again.mp4 is left out" in caplog.text


def test_each_file_that_can_not_be_read_has_its_own_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("empty", "locked", "text"):
        (tmp_path / f"{name}.mp4").write_text("" if name == "empty" else "no video")
    opened = Path.open

    def refusing(path: Path, *args: Any, **options: Any) -> Any:
        if path.name == "locked.mp4":  # permissions don't keep out a superuser, as whom tests may run
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(path, *args, **options)

    monkeypatch.setattr(Path, "open", refusing)
    (tmp_path / "list.txt").write_text("empty.mp4\nlocked.mp4\ntext.mp4\ngone.mp4\n")
    execution, _ = run(tmp_path / "list.txt", Cache(), tmp_path / "out", layout="none")
    problems = [row["problem"] for row in rows(execution.results["curate"][1])]
    assert problems[:2] == ["is empty", "may not be read"]
    assert problems[2] == "is a text, not a video"
    assert problems[3] == "isn't there"


def test_lists_tables_patterns_and_single_files_name_videos(raw: Path, tmp_path: Path) -> None:
    import pyarrow as pa

    shots, again = raw / "shots.mp4", raw / "more" / "again.mp4"
    (tmp_path / "list.txt").write_text(f"# mine\n{shots}\n\nraw/more/again.mp4\n")
    pq.write_table(pa.table({"path": [str(again), str(again)]}), tmp_path / "table.parquet")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "other.parquet")
    assert sources.find(tmp_path / "list.txt") == [shots, again]
    assert sources.find(tmp_path / "table.parquet") == [again]
    assert sources.find(raw / "**" / "*.mp4") == [raw / "broken.mp4", again, shots]
    assert sources.find(shots) == [shots]
    assert sources.find(tmp_path / "nowhere") == []
    with pytest.raises(Exception, match="no column of paths"):
        sources.find(tmp_path / "other.parquet")


def test_a_folder_s_videos_are_told_by_their_contents(raw: Path) -> None:
    film = (raw / "shots.mp4").read_bytes()
    for name in ("film", "film.txt", "film.JPG"):
        (raw / name).write_bytes(film)
    write(raw / "disc.vob", sprites(1), fps=25, codec="mpeg2video")
    write(raw / "stream.h264", sprites(1))
    song(raw / "song.mp3", "mp3", "libmp3lame", cover=True)
    song(raw / "song.m4a", "mp4", "aac", cover=True)
    pictures = [Image.fromarray(picture) for picture in sprites(3)[:3]]
    for name in ("loop.webp", "loop.gif"):
        pictures[0].save(raw / name, save_all=True, append_images=pictures[1:])
    for name in ("still.webp", "still.gif"):
        pictures[0].save(raw / name)
    (raw / "app.ts").write_text("const a = 1;")
    (raw / "noise").write_bytes(np.random.default_rng(0).bytes(5000))
    found = "broken.mp4 disc.vob film film.JPG film.txt loop.gif loop.webp again.mp4 shots.mp4 stream.h264"
    assert " ".join(path.name for path in sources.find(raw)) == found
    assert sources.find(raw / "f*") == [raw / "film", raw / "film.JPG", raw / "film.txt"]
    assert sources.find(raw / "film.txt") == [raw / "film.txt"], "it is no list"


def test_what_is_named_as_a_video_and_is_none_is_listed_with_the_reason(raw: Path, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(raw / "still.mp4", "JPEG")
    song(raw / "song.mov", "mp4", "aac", cover=True)
    (raw / "list.mkv").write_text("a list")
    execution, _ = run(raw, Cache(), tmp_path / "out", layout="none")
    problems = {row["video"]: row["problem"] for row in rows(execution.results["curate"][1])}
    assert problems["still.mp4"] == "is a JPEG picture, not a video"
    assert problems["song.mov"] == "has sound and a cover picture, no video"
    assert problems["list.mkv"] == "is a text, not a video"


def test_a_listed_file_that_does_not_exist_affects_no_other(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("raw/nowhere.mp4\nraw/shots.mp4\n")
    cache = Cache()
    execution, _ = run(tmp_path / "list.txt", cache, tmp_path / "out", layout="none")
    problems = {row["video"]: row["problem"] for row in rows(execution.results["curate"][1])}
    assert problems["raw/shots.mp4"] == ""
    assert "isn't there" in problems["raw/nowhere.mp4"]
    write(raw / "nowhere.mp4", sprites(7, 2))
    execution, _ = run(tmp_path / "list.txt", cache, tmp_path / "out", layout="none")
    assert not any(row["problem"] for row in rows(execution.results["curate"][1]))


def test_links_to_files_are_followed_and_links_to_folders_below_skipped(raw: Path, tmp_path: Path) -> None:
    (raw / "linked.mp4").symlink_to(raw / "shots.mp4")
    (raw / "more" / "circle").symlink_to(raw)
    (tmp_path / "elsewhere").symlink_to(raw)
    for folder in (raw, tmp_path / "elsewhere"):
        assert [str(file.relative_to(folder)) for file in sources.find(folder)] == [
            "broken.mp4",
            "linked.mp4",
            "more/again.mp4",
            "shots.mp4",
        ]


def test_key_frames_further_apart_than_the_longest_clip_lose_nothing(tmp_path: Path) -> None:
    film = np.concatenate([sprites(1, 4)] * 6)
    path = write(tmp_path / "a.mp4", film, g="120", sc_threshold="0")
    assert scanned(path, longest=2.0, at_key_frames=True) == [(0, 120), (120, 240), (240, 360), (360, 480), (480, 576)]


def test_a_folder_without_videos_is_reported_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"no files match '[^']*' in [^:]*$"):
        check(prepare(workflow(tmp_path), registry()))
    for name in "abcde":
        (tmp_path / f"{name}.txt").write_text(name)
    with pytest.raises(MissingError, match=r": a\.txt is a text, b\.txt is a text, c\.txt is a text, and 2 more"):
        check(prepare(workflow(tmp_path), registry()))


@pytest.mark.full
def test_the_paper_s_workflow_curates_real_videos(tmp_path: Path) -> None:
    prepared = read("lvd_f", registry()).prepared
    demo = {
        "clip": "sprite/clip",
        "aesthetics": "sprite/clip/aesthetic.safetensors",
        "image_captioner": "sprite/captioner",
    }
    for name, value in ({"videos": str(REAL)} | demo).items():
        prepared = with_setting(prepared, f"{name}={value}")
    graph = check(prepared)
    events = list(Execution(graph, cache=Cache(), out=tmp_path))
    saved = {path.name: path for event in events if isinstance(event, NodeSaved) for path in event.files}
    assert saved.keys() == {"lvd_f_00001", "lvd_f_preview_00001.png"}
    scores = pq.read_table(saved["lvd_f_00001"] / "scores.parquet").to_pylist()
    assert {row["video"] for row in scores} == {path.name for path in REAL.glob("*.mp4")}
    assert all(row["aesthetics"] is not None and len(row["embedding"]) == 128 for row in scores)
    assert [row["duplicate_of"] for row in scores if row["video"] == "carphone_pristine.mp4"] == [
        "carphone_distorted.mp4#0"
    ]
    assert 0 < len(list((saved["lvd_f_00001"] / "clips").iterdir())) < len(scores)


def test_the_shots_of_a_real_video(tmp_path: Path) -> None:
    execution, _ = run(REAL / "bikes.mp4", Cache(), tmp_path, layout="none", find_text=True)
    clips = rows(execution.results["curate"][0])
    assert [clip["first_frame"] for clip in clips] == [0, 30, 76, 137, 187]
    assert max(clip["text_area"] for clip in clips) < 0.02
