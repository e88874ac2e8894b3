"""Misbehaving nodes for the tests of the server."""

import os
import re
import signal
import time

from engine.node import Context, Figure, InputFile, Node
from engine.values import Files, Image, Media


class Wait(Node, version=1, category="rough"):
    """Take many small steps."""

    text: str
    steps: int = 100

    def run(self, ctx: Context) -> str:
        for step in range(self.steps):
            ctx.progress(step, self.steps)
            time.sleep(0.02)
        return self.text


class LateLook(Node, version=1, category="rough"):
    """The colour of a picture, which is read after a while."""

    text: str
    picture: InputFile

    def run(self, ctx: Context) -> str:
        for step in range(25):
            ctx.progress(step, 25)
            time.sleep(0.02)
        import PIL.Image

        with PIL.Image.open(self.picture) as picture:
            return str(picture.convert("RGB").getpixel((0, 0)))


class Hang(Node, version=1, category="rough"):
    """Report nothing, and ignore cancellation."""

    text: str

    def run(self, ctx: Context) -> str:
        time.sleep(600)
        return self.text


class Seize(Node, version=1, category="rough"):
    """Hold Python's global lock, so that no other thread can run."""

    text: str

    def run(self, ctx: Context) -> str:
        print("seized", flush=True)
        re.match(r"(a|a)*$", "a" * 60 + "b")
        return self.text


class Fail(Node, version=1, category="rough"):
    """Fail with a message."""

    text: str

    def run(self, ctx: Context) -> str:
        raise ValueError(self.text)


class Shout(Node, version=1, category="rough"):
    """Fail with a very long message."""

    text: str

    def run(self, ctx: Context) -> str:
        raise ValueError("x" * 100_000)


class Crash(Node, version=1, category="rough"):
    """Crash the process."""

    text: str

    def run(self, ctx: Context) -> str:
        os.kill(os.getpid(), signal.SIGSEGV)
        time.sleep(60)  # the signal may be delivered to another thread, a moment later
        return self.text


class Topple(Node, version=1, category="rough"):
    """Kill the server, whose child the worker is."""

    text: str

    def run(self, ctx: Context) -> str:
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)  # the worker ends with its server, a moment later
        return self.text


class Gather(Node, version=1, category="rough"):
    """Store a part of the work at each call, and kill the server after the first that is new."""

    text: str
    parts: int = 4

    def run(self, ctx: Context) -> str:
        for part in range(self.parts):
            if not ctx.recall(f"{self.text} {part}"):
                ctx.keep(f"{self.text} {part}", (self.text,), seconds=60.0)
                time.sleep(1)  # by then it is stored
                os.kill(os.getppid(), signal.SIGKILL)
                time.sleep(60)
        return self.text


class Trap(Node, version=1, category="rough"):
    """Leave CUDA as a failed assertion on a GPU leaves it: every later call fails."""

    text: str

    def run(self, ctx: Context) -> str:
        import torch

        def fail(device: object = None) -> None:
            raise torch.AcceleratorError("CUDA error: device-side assert triggered\nIt may be of an earlier call")

        torch.cuda.is_initialized, torch.cuda.synchronize = (lambda: True), fail
        fail()
        return self.text


class Leave(Node, version=1, category="rough"):
    """Exit the process at once."""

    text: str

    def run(self, ctx: Context) -> str:
        os._exit(3)


class Gorge(Node, version=1, category="rough"):
    """Take more and more memory."""

    text: str

    def run(self, ctx: Context) -> str:
        hoard = []
        while True:
            hoard.append(b"x" * 20_000_000)
            ctx.progress(len(hoard), 1000)
            time.sleep(0.01)


class Chatter(Node, version=1, category="rough"):
    """Print, as careless nodes do."""

    text: str

    def run(self, ctx: Context) -> str:
        print("this belongs to no protocol", flush=True)
        os.write(1, b"nor does this\n")
        return self.text


class Recite(Node, version=1, category="rough"):
    """Write a text piece by piece."""

    text: str

    def run(self, ctx: Context) -> str:
        for word in self.text.split():
            ctx.text(f"{word} ")
            time.sleep(0.1)
        return self.text


class Flicker(Node, version=1, category="rough"):
    """Send a preview at every step, far more often than is useful."""

    text: str

    def run(self, ctx: Context) -> str:
        import torch

        for step in range(100):
            ctx.progress(step, 100, preview=lambda: Image(torch.rand(1, 3, 8, 8)))
            time.sleep(0.01)
        return self.text


class Weigh(Node, version=1, category="rough"):
    """Report how long a text is."""

    text: str

    def run(self, ctx: Context) -> str:
        ctx.report({"letters": len(self.text), "time": Figure(0.5, "s")})
        return self.text


class Mumble(Node, version=2, category="rough", deprecated="use Recite instead", renamed={"words": "text"}):
    """Hand on a text, which was called otherwise once."""

    text: str

    def run(self, ctx: Context) -> str:
        return self.text


class Note(Node, version=1, category="rough", saves="text"):
    """Save a text."""

    text: str

    def run(self, ctx: Context) -> Files:
        return Files((Media(self.text.encode(), "txt", "note"),))
