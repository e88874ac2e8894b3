"""The command `kinograph`."""
