"""`python -m engine.cli` is the command `kinograph`."""

from engine.cli.main import main

main()
