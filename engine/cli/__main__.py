"""`python -m engine.cli` is the command `kinograph`."""

import os
import sys

# Python has put the working folder first on the import path. Nothing there may take the place of a module, unless it is
# the source tree that this file is in; what is imported above was so when Python had started.
first, own = os.path.realpath(sys.path[0]), os.path.realpath(f"{__file__}/../../..")
if not sys.flags.safe_path and own != first == os.path.realpath(os.getcwd()):  # noqa: PTH109
    del sys.path[0]

from engine.cli.main import main  # noqa: E402

main()
