"""Kinograph's node-graph engine: workflow → graph → plan → execution → cached values and events."""
