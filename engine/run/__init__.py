"""Carrying out a plan with threads, as a stream of events."""
