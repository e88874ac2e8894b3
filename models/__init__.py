"""Models that ship with Kinograph."""
