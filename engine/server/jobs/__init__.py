"""The queue as the server sees it, and the worker processes."""
