"""Kinograph's own routes."""
