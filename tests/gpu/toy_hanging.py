"""A step that takes too long, and another."""

from __future__ import annotations

from tests.gpu.toy_steps import after, hangs

STEPS = (hangs, after)
