"""The checked graph, its keys and its plan: pure functions."""
