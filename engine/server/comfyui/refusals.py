"""What is wrong with a workflow, as ComfyUI's protocol says it: by node, with types that its clients know.

{"3": {"class_type": "KSampler", "dependent_outputs": ["9"],
       "errors": [{"type": "value_bigger_than_max", "message": …, "details": …,
                   "extra_info": {"input_name": "steps", "received_value": 99999}}]}}
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from aiohttp import web

from engine.document.prepared import Prepared
from engine.document.subgraphs import outermost
from engine.document.workflow import as_link
from engine.errors import Problem
from engine.graph.check import Verdict
from engine.server.http.limits import MOST_PROBLEMS
from engine.server.http.routes import problems_data

MOST_OUTPUTS = 100
"""Most outputs that are listed as dependent on a node."""
MOST_LETTERS = 1000
"""Most letters of a value that are shown."""
OTHER = "custom_validation_failed"
"""The type of problems for which the protocol has none."""


def refused(found: Verdict, targets: Sequence[str] | None = None) -> web.Response:
    """The answer that refuses a workflow; `targets` as for `node_errors`."""
    refusal = found.error()
    problems = refusal.problems
    kinds = {problem.cause for problem in problems if problem.node is None}
    error = {
        "type": "prompt_no_outputs" if "prompt_no_outputs" in kinds else "prompt_outputs_failed_validation",
        "message": str(problems[0]),
        "details": "\n".join(map(str, problems[:MOST_PROBLEMS])),
        "extra_info": {"kind": type(refusal).__name__},
    }
    data = {"error": error, "node_errors": node_errors(found, targets), "problems": problems_data(problems)}
    return web.json_response(data, status=400)


def node_errors(found: Verdict, targets: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
    """The problems of each node.

    Args:
        found: the result of a workflow's check.
        targets: the nodes whose outputs are wanted; those that save if None.
    """
    prepared, errors = found.prepared, dict[str, dict[str, Any]]()
    for problem in (*found.problems, *found.missing)[:MOST_PROBLEMS]:
        if problem.node is not None:
            errors.setdefault(outermost(problem.node), {"errors": []})["errors"].append(_error(problem, prepared))
    wanted = [outermost(node) for node in (prepared.saving if targets is None else targets)]
    outputs = _dependent(prepared, errors, wanted) if errors else {}
    for node, about in errors.items():
        entry = prepared.workflow.graph.get(node)
        about |= {"dependent_outputs": outputs.get(node, []), "class_type": entry and entry.class_type}
    return errors


def node_warnings(prepared: Prepared) -> dict[str, dict[str, Any]]:
    """What was ignored of each node, in the same form; nothing depends on it."""
    warnings: dict[str, dict[str, Any]] = {}
    for problem in prepared.ignored[:MOST_PROBLEMS]:
        if problem.node is not None:
            entry = prepared.workflow.graph.get(problem.node)
            empty: dict[str, Any] = {"warnings": [], "class_type": entry and entry.class_type}
            warnings.setdefault(problem.node, empty)["warnings"].append(_error(problem, prepared))
    return warnings


def _error(problem: Problem, prepared: Prepared) -> dict[str, Any]:
    about: dict[str, Any] = {"input_name": problem.input} if problem.input else {}
    entry = prepared.flat.graph.get(problem.node or "")
    if entry and problem.cause == "missing_node_type":
        title = entry.meta.get("title") or entry.class_type
        about |= {"node_id": problem.node, "class_type": entry.class_type, "node_title": title}
    elif entry and problem.input in entry.inputs:
        value = entry.inputs[problem.input]
        if as_link(value):
            about["linked_node"] = value
        elif isinstance(value, str | int | float):
            about["received_value"] = value[:MOST_LETTERS] if isinstance(value, str) else value
    details = problem.hint or (problem.input or "")
    return {"type": problem.cause or OTHER, "message": problem.message, "details": details, "extra_info": about}


def _dependent(prepared: Prepared, nodes: Collection[str], outputs: Iterable[str]) -> dict[str, list[str]]:
    """The first outputs that depend on each of these nodes.

    What leads to an output depends on all that this node depends on: so a node that has as many as are listed needn't
    be gone through again, nor what leads to it.
    """
    graph = prepared.workflow.graph
    found: dict[str, list[str]] = {}
    for output in outputs:
        seen, waiting = {output}, [output]
        while waiting:
            node = waiting.pop()
            listed = found.setdefault(node, [])
            if len(listed) >= MOST_OUTPUTS or node not in graph:
                continue
            listed.append(output)
            sources = {link.node for value in graph[node].inputs.values() if (link := as_link(value))}
            waiting += sources - seen
            seen |= sources
    return {node: found[node] for node in nodes if node in found}
