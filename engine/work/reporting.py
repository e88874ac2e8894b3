"""Report a worker's progress to its server, in batches, so that fast nodes don't flood those who watch."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from threading import Condition, RLock, Thread
from typing import Any, BinaryIO, Self

from engine.events import (
    Event,
    NodeFailed,
    NodeProgress,
    NodeReported,
    NodeRetried,
    NodeSaved,
    NodeText,
    NodeWarned,
    RunFinished,
    to_json,
)
from engine.values import Image
from engine.work.hiding import Hiding
from engine.work.media import location_of
from engine.work.messages import (
    JobEvents,
    JobPreview,
    ModelFetched,
    ModelProgress,
    NodeStarting,
    Report,
    to_line,
)

logger = logging.getLogger("kinograph")

SEND_SECONDS = 0.03
"""The minimum time between batches; what happens meanwhile is gathered."""
MAX_CHARACTERS = 20_000
"""The maximum length of each text in a failure report."""
MAX_TEXT = 1_000_000
"""The maximum length of the text that a node writes within one batch."""
PREVIEW_SECONDS = 0.25
"""The minimum time between previews."""
PREVIEW_SIDE = 512
"""The maximum length of a preview's longer side, in pixels."""


class ServerReporter:
    """A `Reporter` that reports to the server, from a thread of its own, so that nothing waits for it.

    Of progress, or of reports, in a row a batch has only the last, and a node's text in one piece.

    Args:
        out: takes the bytes.
        hiding: leaves paths out of errors, if that is wanted.
    """

    def __init__(self, out: BinaryIO, hiding: Hiding | None = None) -> None:
        self.previews = False
        """Whether anyone is watching them."""
        self._out = out
        self._hiding = hiding
        self._waking = Condition()
        self._writing = RLock()
        self._closed = False
        self._job = ""
        self._roots: Mapping[str, Path] = {}
        self._messages: list[Report] = []
        self._drawn = -PREVIEW_SECONDS
        """When a node was last asked to draw a preview."""
        self._preview: tuple[str, str, Image] | None = None
        self._thread = Thread(target=self._run, name="kinograph-reports", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        with self._waking:
            self._closed = True
            self._waking.notify()
        self._thread.join()

    @contextmanager
    def of(self, job: str, roots: Mapping[str, Path]) -> Iterator[None]:
        """Within it, what is reported is about this job."""
        self._job, self._roots = job, roots
        try:
            yield
        finally:
            with self._waking:
                self._preview = None

    def send(self, message: Report) -> None:
        """Send a message, in its turn."""
        with self._waking:
            self._messages.append(message)
            self._waking.notify()

    def starting(self, node: str, kind: str) -> None:
        """Report that a node is about to run, before anything else happens: it may be the worker's last report."""
        self._flush()
        self._write(to_line(NodeStarting(node=node, kind=kind)))

    def download(self, source: str, done: int, total: int) -> None:
        with self._waking:
            match self._messages:
                case [*_, ModelProgress(source=before)] if before == source:
                    self._messages.pop()
            self._messages.append(ModelProgress(job=self._job, source=source, done=done, total=total))
            self._waking.notify()

    def downloaded(self, source: str, path: Path) -> None:
        self.send(ModelFetched(job=self._job, source=source, path=str(path)))

    def wants_preview(self) -> bool:
        """Whether a node should draw a preview now; if so, none should for a while. May be called from any thread."""
        with self._waking:
            now = time.monotonic()
            wanted = self.previews and now - self._drawn >= PREVIEW_SECONDS
            self._drawn = now if wanted else self._drawn
            return wanted

    def event(self, event: Event) -> None:
        data = to_json(event)
        if isinstance(event, NodeSaved):
            data["files"] = [location_of(file, self._roots) for file in event.files]
        elif isinstance(event, NodeFailed | NodeReported | NodeRetried | NodeWarned | RunFinished):
            data = self.shown(data)
        with self._waking:
            if isinstance(event, NodeProgress) and event.preview:
                self._preview = self._job, event.node, event.preview
            if not (self._messages and isinstance(self._messages[-1], JobEvents)):
                self._messages.append(JobEvents(job=self._job, events=[]))
            gathered = self._messages[-1]
            assert isinstance(gathered, JobEvents)
            events = gathered.events
            last = events[-1] if events else {}
            if (last.get("event"), last.get("node")) == (data["event"], data.get("node")):
                if data["event"] in ("node_progress", "node_reported"):
                    events.pop()
                elif data["event"] == "node_text":
                    data["text"] = events.pop()["text"] + data["text"]
            if isinstance(event, NodeText):
                data = shortened(data, MAX_TEXT)
            events.append(data)
            self._waking.notify()

    def shown(self, report: Any) -> Any:
        """A report of errors as JSON data, as clients may see it."""
        data = shortened(report)
        return self._hiding.data(data) if self._hiding else data

    def _run(self) -> None:
        sent = 0.0
        while not self._closed or self._messages:
            with self._waking:
                if not (self._messages or self._closed):
                    self._waking.wait()
            time.sleep(max(0.0, sent + SEND_SECONDS - time.monotonic()))
            with self._waking:
                preview, self._preview = self._preview, None
            sent = time.monotonic()
            self._flush()
            if preview:
                self._send_preview(*preview)

    def _flush(self) -> None:
        """Write the messages that are waiting, in order."""
        with self._writing:
            with self._waking:
                messages, self._messages = self._messages, []
            for message in messages:
                self._write(to_line(message))

    def _send_preview(self, job: str, node: str, preview: Image) -> None:
        try:
            data = as_jpeg(preview)
        except Exception:
            logger.exception("no preview of node %s", node)  # only for viewing, so the run continues
        else:
            self._write(to_line(JobPreview(job=job, node=node, size=len(data))) + data)

    def _write(self, data: bytes) -> None:
        """Write all of the data, of which a pipe takes only a part at once."""
        rest = memoryview(data)
        with self._writing:
            while rest:
                rest = rest[self._out.write(rest) :]


def shortened(data: Any, most: int = MAX_CHARACTERS) -> Any:
    """JSON data with the middle of long texts left out, since an error's message may have megabytes."""
    match data:
        case str() if len(data) > most:
            return f"{data[: most // 2]} … {data[-most // 2 :]}"
        case dict():
            return {name: shortened(value, most) for name, value in data.items()}
        case list() | tuple():
            return [shortened(value, most) for value in data]
    return data


def as_jpeg(image: Image) -> bytes:
    """The first picture of a batch, small enough to be sent often."""
    import PIL.Image

    pixels = (image.pixels[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    picture = PIL.Image.fromarray(pixels)
    picture.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    data = BytesIO()
    picture.save(data, "JPEG", quality=85)
    return data.getvalue()
