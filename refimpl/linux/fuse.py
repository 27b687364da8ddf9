"""The programs of FUSE file systems, which mount and unmount what the kernel alone cannot. Clauses MNT-019, MNT-023."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import suppress

from refimpl.contract.errors import Unknown
from refimpl.contract.mounts import Mount


def run_helper(each: Mount, target: str) -> None:
    """Let the program for FUSE file systems mount.

    Raises:
        Unknown: it is not there, or it failed (MNT-019).
    """
    kind, _, name = each.type.partition(".")
    program = f"mount.{kind}"
    arguments = [each.source, target]
    for option in each.options:
        arguments += ["-o", option]
    arguments += ["-t", name]
    told = f"{program} [{' '.join(arguments)}]"
    if shutil.which(program) is None:
        raise Unknown(f'mount helper [{told}] failed: "": executable file not found in $PATH')
    done = subprocess.run(
        [program, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if done.returncode:
        said = done.stdout.decode(errors="replace")
        raise Unknown(f'mount helper [{told}] failed: "{said}": exit status {done.returncode}')


def let_helper_unmount(target: str) -> None:
    """Give a FUSE file system's own program the first try (MNT-023); whether it worked shows at the next one."""
    for program in ("fusermount3", "fusermount"):
        with suppress(OSError):
            if not subprocess.run([program, "-u", target], capture_output=True, check=False).returncode:
                return
