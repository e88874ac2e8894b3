"""What `Graph` has for each kind of node, as editors and type checkers see it: `kinds.pyi`, which `stubs` writes."""


class Kinds:
    """Base of `Graph`, which finds the kinds in the registry."""
