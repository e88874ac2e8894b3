"""The files that requests name: where they are, and their previews."""
