"""The durable queue, and the processes that do its jobs."""
