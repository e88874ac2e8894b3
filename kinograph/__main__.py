"""`python -m kinograph` is the command."""

from engine.cli.main import main

main()
