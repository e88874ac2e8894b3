"""The files that requests name: where they are, and how they look."""
