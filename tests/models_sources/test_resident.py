"""The pool of loaded models."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch

from engine.models import Models
from engine.models.resident import nbytes


@dataclass
class Block:
    nbytes: int


def test_threads_that_want_one_model_share_a_single_load() -> None:
    models, loads = Models(), []

    def load() -> Block:
        loads.append(time.sleep(0.05))
        return Block(1)

    got: list[Block] = []
    threads = [threading.Thread(target=lambda: got.append(models.get("unet", load))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(loads) == 1
    assert len(got) == 8
    assert len({id(model) for model in got}) == 1


def test_another_model_loads_meanwhile() -> None:
    models, other_is_there = Models(), threading.Event()

    def wait() -> Block:
        assert other_is_there.wait(5)
        return Block(1)

    slow = threading.Thread(target=models.get, args=("slow", wait))
    slow.start()
    models.get("other", lambda: Block(1))
    other_is_there.set()
    slow.join()
    assert len(models) == 2


def test_the_least_recently_used_is_evicted_when_the_budget_is_spent() -> None:
    models = Models(budget=100)
    for key in "ab":
        models.get(key, lambda: Block(40))
    models.get("a", lambda: pytest.fail("a is loaded"))
    models.release()

    models.get("c", lambda: Block(40))

    assert models.nbytes == 80
    models.get("a", lambda: pytest.fail("a was used later than b"))
    assert models.get("b", lambda: Block(7)).nbytes == 7


def test_a_model_larger_than_the_budget_stays_while_it_is_the_last_one_requested() -> None:
    models = Models(budget=100)
    models.get("small", lambda: Block(40))
    models.release()

    models.get("large", lambda: Block(400))

    assert len(models) == 1
    models.get("large", lambda: pytest.fail("large is loaded"))


def test_a_failed_load_is_tried_again() -> None:
    def fail() -> Block:
        raise OSError("disk")

    models = Models()
    with pytest.raises(OSError, match="disk"):
        models.get("unet", fail)

    assert len(models) == 0
    assert models.get("unet", lambda: Block(1)).nbytes == 1


def test_clear_drops_all() -> None:
    models = Models()
    models.get("unet", lambda: Block(1))
    models.release()
    models.clear()
    assert (len(models), models.nbytes) == (0, 0)
    assert models.get("unet", lambda: Block(2)).nbytes == 2


def test_the_size_of_a_model_is_that_of_its_parameters_and_buffers() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.BatchNorm1d(5))
    weight = (3 * 5 + 5 + 5 + 5) * 4 + (5 + 5) * 4 + 8

    pipeline = SimpleNamespace(components={"unet": module, "scheduler": object(), "safety_checker": None})

    assert nbytes(module) == weight
    assert nbytes(pipeline) == weight
    assert nbytes((module, "tokenizer")) == weight
