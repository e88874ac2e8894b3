"""Whose turn it is on a device that hasn't room for the models of all nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from engine.graph.keys import Key
from engine.models import Models
from engine.models.usage import User
from engine.run.activations import Activations
from engine.run.schedule import Task
from engine.store.cache import Entry
from engine.values import ModelReference


class Turns:
    """Lets tasks whose models are on the device go first where others would have them leave it.

    So a sweep over two models that don't fit together changes them a few times, and not for each item. What it computes
    early waits in memory; when that exceeds its budget, tasks run in the order of the plan again.

    Args:
        device: where the tasks compute.
        models: the resident models, which know what nodes used and where it is.
        activations: what nodes are known to take beside models and results.
        budget: how many bytes the results that wait may take.
        inputs: the values of a task's links.
    """

    def __init__(
        self,
        device: str,
        models: Models,
        activations: Activations,
        budget: Callable[[], int],
        inputs: Callable[[Task], Iterable[Any]],
    ) -> None:
        self._device = device
        self._models = models
        self._activations = activations
        self._budget = budget
        self._inputs = inputs
        self._users: dict[Key, User] = {}

    def choose(self, ready: Sequence[tuple[int, Task]], held: Iterable[Entry]) -> Task:
        """The task that is to run next.

        Args:
            ready: the tasks that may start, with their ranks; the first has the lowest.
            held: the results that wait.
        """
        first = ready[0][1]
        seen: dict[User, bool] = {}
        if len(ready) == 1 or not self._displaces(first, seen) or sum(e.nbytes for e in held) > self._budget():
            return first
        staying = (task for _, task in ready if not self._displaces(task, seen))
        return min(staying, key=lambda task: task.rank, default=first)

    def _displaces(self, task: Task, seen: dict[User, bool]) -> bool:
        user = self._users.get(task.key)
        if user is None:
            user = self._users[task.key] = user_of(task.step.kind.spec.kind, self._device, self._inputs(task))
        if user not in seen:
            need = self._activations.of(user.kind, "")  # the most of any size
            seen[user] = self._models.displaces(self._device, user, need)
        return seen[user]


def user_of(kind: str, device: str, inputs: Iterable[Any]) -> User:
    """A node on a kind of device as a user of models, by the values of its inputs."""
    return User(f"{kind} {device.partition(':')[0]}", frozenset(_references(inputs)))


def _references(values: Iterable[Any]) -> Iterable[str]:
    for value in values:
        if isinstance(value, ModelReference):
            yield value.made_of
        elif isinstance(value, tuple):
            yield from _references(value)
