"""A job's events as the messages of ComfyUI's protocol."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from engine.document.subgraphs import outermost
from engine.errors import KinographError
from engine.work.media import media_group
from engine.work.records import Job, JobOutputs

Message = tuple[str, dict[str, Any]]


class JobMessages:
    """The messages about one job while it runs.

    Args:
        job: its id.
        nodes: the ids of the workflow's nodes; none for a sweep, where each combination may have other cached results.
    """

    def __init__(self, job: str, nodes: Iterable[str]) -> None:
        self.job = job
        self.running: dict[str, str] = {}
        """The running steps, and their kinds."""
        self._nodes = list(nodes)
        self._executed: dict[str, None] = {}
        self._changed: dict[str, dict[str, Any]] = {}

    def started(self) -> Message:
        return "execution_start", {"prompt_id": self.job, "timestamp": _now()}

    def for_events(self, events: Iterable[Mapping[str, Any]]) -> Iterator[Message]:
        """The messages for some events, then one with the progress of all nodes that they concern."""
        for event in events:
            if handler := getattr(self, f"_{event['event']}", None):
                yield from handler(event)
        if self._changed:
            nodes = {node: self._state(node, about) for node, about in self._changed.items()}
            self._changed = {node: about for node, about in self._changed.items() if node in self.running}
            yield "progress_state", {"prompt_id": self.job, "nodes": nodes}

    def ended(self, job: Job) -> Iterator[Message]:
        """How the job ended; the history has it by now."""
        yield last_message(job, list(self._executed))
        yield "executing", {"node": None, "display_node": None, "prompt_id": self.job}

    def _run_started(self, event: Mapping[str, Any]) -> Iterator[Message]:
        pending = set(map(outermost, event["pending"]))
        held = [node for node in self._nodes if node not in pending]
        yield "execution_cached", {"nodes": held, "prompt_id": self.job, "timestamp": _now()}

    def _node_started(self, event: Mapping[str, Any]) -> Iterator[Message]:
        node = event["node"]
        self.running[node] = event["kind"]
        self._changed[node] = {"value": 0, "max": 1, "state": "running"}
        yield "executing", {"node": node, "display_node": outermost(node), "prompt_id": self.job}

    def _node_progress(self, event: Mapping[str, Any]) -> Iterator[Message]:
        node, about = event["node"], {"value": event["done"], "max": event["total"]}
        self._changed[node] = {**about, "state": "running"}
        yield "progress", {**about, "prompt_id": self.job, "node": node}

    def _node_saved(self, event: Mapping[str, Any]) -> Iterator[Message]:
        yield from self._output(event["node"], files_by_medium(event["files"]))

    def _node_result(self, event: Mapping[str, Any]) -> Iterator[Message]:
        yield from self._output(event["node"], {"text": [*event["outputs"].values()]})

    def _node_finished(self, event: Mapping[str, Any]) -> Iterator[Message]:
        node = event["node"]
        self.running.pop(node, None)
        self._executed[outermost(node)] = None
        total = self._changed.get(node, {}).get("max", 1)
        self._changed[node] = {"value": total, "max": total, "state": "finished"}
        yield from ()

    def _node_failed(self, event: Mapping[str, Any]) -> Iterator[Message]:
        self.running.pop(event["node"], None)
        self._changed[event["node"]] = {"value": 0, "max": 1, "state": "error"}
        yield from ()

    def _output(self, node: str, output: Mapping[str, Any]) -> Iterator[Message]:
        about = {"node": node, "display_node": outermost(node), "output": output, "prompt_id": self.job}
        yield "executed", about

    def _state(self, node: str, about: Mapping[str, Any]) -> dict[str, Any]:
        where = {"node_id": node, "display_node_id": outermost(node), "real_node_id": node, "parent_node_id": None}
        return {**about, **where, "prompt_id": self.job}


def files_by_medium(files: Iterable[Mapping[str, str]]) -> dict[str, list[Any]]:
    """A node's files in the protocol's format: pictures and videos under "images", and whether they move."""
    grouped: dict[str, list[Any]] = {}
    for file in files:
        kind = media_group(Path(file["filename"]))
        grouped.setdefault("images" if kind in ("images", "videos") else "files", []).append(file)
        if kind == "videos":
            grouped["animated"] = [True]
    return grouped


def outputs_of(outputs: JobOutputs) -> dict[str, dict[str, list[Any]]]:
    """A job's outputs in the protocol's format: by node, the items of a list together."""
    by_node: dict[str, dict[str, list[Any]]] = {}
    for step, output in outputs.items():
        node = by_node.setdefault(outermost(step), {})
        files = [file for kind, listed in output.items() if kind != "text" for file in listed]
        new = (files_by_medium(files) if files else {}) | ({"text": output["text"]} if "text" in output else {})
        for name, values in new.items():
            node[name] = values if name == "animated" else node.get(name, []) + values
    return by_node


TEXT_CHARACTERS = 1024
"""Characters of a text in a preview."""
TEXTS = (".txt", ".md", ".json")
"""The file name endings of texts that clients show."""


def preview_of(outputs: Mapping[str, Mapping[str, list[Any]]]) -> tuple[dict[str, Any] | None, int, int]:
    """What stands for a job in lists, the number of its files, and how many of these clients show.

    A saved picture or video goes before one that is only for looking at, then a saved text, then a text.

    Args:
        outputs: those of a job, in the protocol's format.
    """
    found: dict[int, dict[str, Any]] = {}
    files = shown = 0
    for node, output in outputs.items():
        for medium, items in output.items():
            about = {"nodeId": node, "mediaType": medium}
            if medium == "text":
                text = next((text for text in items if isinstance(text, str)), "")
                cut = {"truncated": True} if len(text) > TEXT_CHARACTERS else {}
                found.setdefault(3, {"content": text[:TEXT_CHARACTERS], **cut, **about})
            elif medium != "animated":
                files += len(items)
                for file in items:
                    is_text = file["filename"].lower().endswith(TEXTS)
                    if medium == "images" or is_text:
                        shown += 1
                        rank = 2 if is_text else 0 if file["type"] == "output" else 1
                        found.setdefault(rank, {**file, **about})
    return (found[min(found)] if found else None), files, shown


def execution_error(job: Job) -> dict[str, Any]:
    """What the protocol says of a job that has failed; clients expect a node, which is "" for a fault elsewhere."""
    about = last_message(job, [])[1]
    return {**about, "node_id": about["node_id"] or "", "node_type": about["node_type"] or ""}


def last_message(job: Job, executed: list[str]) -> Message:
    """The message that says how a job ended."""
    about: dict[str, Any] = {"prompt_id": job.id, "timestamp": _now(job.finished)}
    if job.state == "done":
        return "execution_success", about
    failure = next(iter(job.record.get("failures", ())), None) or {}
    problem = next(iter(job.record.get("problems", ())), None) or {}
    where = {"node_id": failure.get("node") or problem.get("node"), "node_type": failure.get("kind")}
    if job.state == "cancelled":
        return "execution_interrupted", {**about, **where, "executed": executed}
    return "execution_error", {
        **about,
        **where,
        "executed": executed,
        "exception_message": problem.get("message", "failed"),
        "exception_type": failure.get("error") or KinographError.__name__,
        "traceback": (failure.get("trace") or job.record.get("trace") or "").splitlines(keepends=True),
        "current_inputs": failure.get("inputs", {}),
        "current_outputs": [],
    }


def _now(seconds: float | None = None) -> int:
    """A time (None: now) in milliseconds, as in the protocol."""
    return int((time.time() if seconds is None else seconds) * 1000)
