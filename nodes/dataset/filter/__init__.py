"""Which clips are kept."""
