"""Where the serving process begins: ``python -I -S boot.py PATH -namespace NS -id ID -address ADDR``.

Run as a file, without the ``site`` module, whose start files a process that exists once per container does not need.
What ``site`` would have found comes in as ``PATH``: directories for ``sys.path``, joined by colons.
"""

import sys

if __name__ == "__main__":
    sys.path[:0] = sys.argv.pop(1).split(":")
    from refimpl.shim.main import main

    sys.exit(main())
