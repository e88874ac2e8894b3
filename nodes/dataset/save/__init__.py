"""A data set on disk: clips, tables, report."""
