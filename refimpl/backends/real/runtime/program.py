"""The daemon as a program that shims can run: what they are told as ``-publish-binary`` or ``-containerd-binary``.

The shim of the first runtime tells of exits by running ``PROGRAM --address ADDR publish ...`` (RT1-010, EVT-011). This
daemon is a Python program that may have been started in many ways, so that program is a small script of its own. It is
kept under the plugin's root: file systems for state are often mounted so that nothing on them can be run.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import refimpl

NAME = ".refimpl"
"""Of the script; plugins pass over names that begin with a dot (SHM-087)."""


def daemon_program(root: Path) -> str:
    """Write the script, if need be; its absolute path.

    Args:
        root: the plugin's root directory; made if it is missing.
    """
    package = Path(refimpl.__file__).resolve().parent.parent
    # -P: a shim runs it in a directory of the container's.
    command = f"PYTHONPATH={shlex.quote(str(package))} exec {shlex.quote(sys.executable)} -P -m refimpl"
    text = f'#!/bin/sh\n{command} "$@"\n'
    path = root.absolute() / NAME
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        fresh = path.with_name(f"{NAME}.{os.getpid()}")
        fresh.write_text(text, encoding="utf-8")
        os.chmod(fresh, 0o755)  # noqa: S103  # shims may be anybody's; there is nothing secret in it
        os.rename(fresh, path)
    return str(path)
