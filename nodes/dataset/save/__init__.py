"""Saving a data set: clips, tables, report."""
