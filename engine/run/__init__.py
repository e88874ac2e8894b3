"""A plan carried out by threads, as a stream of events."""
