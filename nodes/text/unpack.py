"""GGUF files, unpacked once to a transformers folder: reading GGUF takes 20 s each time, the folder half a second.

Unpacking is mostly plain Python, so it runs in a process of its own, where it doesn't block other nodes:
`python -P nodes/text/unpack.py FILE FOLDER`.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

Reading = AbstractContextManager[None]
TICK = 0.25  # seconds between two calls of `waiting`


def unpacked(
    file: Path, identity: str, home: Path, waiting: Callable[[], None], reading: Callable[[], Reading]
) -> Path:
    """The folder below `home` that holds a GGUF file's model and tokenizer, created if it doesn't exist.

    Weights are in half precision, whatever their quantisation, as GGUF's own scales are.

    Args:
        identity: identifies the file's contents; equal files share a folder.
        waiting: called several times a second; what it raises ends the unpacking.
        reading: makes a context in which the file is read; if leaving it raises, what was unpacked is dropped.

    Raises:
        ValueError: transformers can't read the file; the message is its own.
    """
    from filelock import FileLock, Timeout

    folder = home / "unpacked" / hashlib.sha256(identity.encode()).hexdigest()[:32]
    folder.parent.mkdir(parents=True, exist_ok=True)
    while not folder.is_dir():
        try:
            with FileLock(f"{folder}.lock", timeout=TICK):
                if not folder.is_dir():
                    _unpack_apart(file, folder, waiting, reading)
        except Timeout:  # another process is unpacking it
            waiting()
    return folder


def _unpack_apart(file: Path, folder: Path, waiting: Callable[[], None], reading: Callable[[], Reading]) -> None:
    """Unpack in another process, next to the folder's path, and move the result there."""
    from engine.atomic import replacing  # not at the top: the unpacking process runs this file alone
    from engine.python import command, environment

    for stale in folder.parent.glob(f".{folder.name}.*"):  # of a killed process, whose child may still write
        shutil.rmtree(stale, ignore_errors=True)
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as errors,
        replacing(folder, durable=True, prefix=f".{folder.name}.", suffix="") as part,
        reading(),
    ):
        process = subprocess.Popen(command(__file__, str(file), str(part)), env=environment(), stderr=errors)
        try:
            while process.poll() is None:
                waiting()
                time.sleep(TICK)
        finally:
            process.kill()
            process.wait()
        if process.returncode:
            errors.seek(0)
            raise ValueError((errors.read().strip() or "no reason was given").splitlines()[-1])


def _unpack(file: Path, folder: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig

    options = {"gguf_file": file.name, "local_files_only": True}
    config = AutoConfig.from_pretrained(file.parent, **options)  # given to the others, so that they don't read it again
    tokenizer = AutoTokenizer.from_pretrained(file.parent, config=config, **options)
    model = AutoModelForCausalLM.from_pretrained(
        file.parent, config=config, quantization_config=GgufConfig(dequantize=True), dtype=torch.float16, **options
    )
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)


if __name__ == "__main__":
    _unpack(Path(sys.argv[1]), Path(sys.argv[2]))
