"""``python -m refimpl``: the ``refimpl`` command for an interpreter whose scripts are not on the path."""

import sys

from refimpl.cli import main

if __name__ == "__main__":
    sys.exit(main())
