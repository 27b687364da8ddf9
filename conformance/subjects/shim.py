"""``shim:/path/containerd-shim-x-v1``: a shim binary alone; the run plays containerd (``conformance.shim``)."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import parse_qs

from conformance.recorder import Recorder
from conformance.shim.bundle import make_rootfs
from conformance.shim.harness import Harness
from conformance.subjects import machine
from conformance.subjects.base import Identity, Subject, SubjectError
from refimpl.contract.errors import ContainerdError

_OCI_RUNTIMES = ("runc", "crun", "youki", "runsc")


class ShimSubject(Subject):
    """A shim binary.

    Args:
        spec: as on the command line.
        binary: the file.
        like: names of shims whose own clauses bind this one as well, because it says that it behaves as they do.
    """

    # What a daemon makes of its shims is judged on daemons.
    never = frozenset({"tasks"})

    def __init__(self, spec: str, binary: Path, like: Sequence[str] = ()) -> None:
        super().__init__(spec)
        self.binary = binary
        self.types = frozenset({binary.name, *like})
        self.only_areas = frozenset({"shim"})
        self._top: Path | None = None
        self._rootfs: Path | None = None
        self._version = ""

    def open(self) -> None:
        """Make a root file system, and see whether a shim starts and answers.

        Raises:
            SubjectError: no such file, nothing to make a root file system of, or no shim comes to life.
        """
        if not os.access(self.binary, os.X_OK):
            raise SubjectError(f"{self.binary} is not there, or nothing that can be run")
        self.furnish()
        self.capabilities = self._offered()
        self.probe()

    def furnish(self) -> None:
        """Make a root file system for containers."""
        self._top = Path(tempfile.mkdtemp(prefix="cfr-"))
        # The user of a container may be another one: the way to its root has to be open.
        self._top.chmod(0o755)
        if make_rootfs(self._top / "rootfs"):
            self._rootfs = self._top / "rootfs"

    def probe(self) -> None:
        """See whether a shim comes to life.

        Raises:
            SubjectError: it does not.
        """
        harness = self.harness()
        try:
            harness.shim().task.connect("")
            self._version = _version(harness.run([str(self.binary), "-v"]).out.decode(errors="replace"))
        except (AssertionError, ContainerdError, TimeoutError, OSError) as error:
            raise SubjectError(f"{self.binary} serves no shim: {error}") from error
        finally:
            harness.close()

    def _offered(self) -> frozenset[str]:
        words = {"shim", "shim-binary", "ttrpc", "disk", "log"} | machine.capabilities()
        if os.geteuid() == 0:
            words.add("root")
            if shutil.which("setpriv") is not None:
                words.add("two-uids")
            if self._rootfs is not None and any(name in type for name in _OCI_RUNTIMES for type in self.types or ()):
                words |= {"oci", "runc"}
        return frozenset(words)

    def harness(self, recorder: Recorder | None = None) -> Harness:
        """What a check drives the binary with; the check closes it."""
        return Harness(self.binary, self._rootfs, recorder)

    def identity(self) -> Identity:
        """What the binary says of itself."""
        return Identity(self.binary.name, self._version, {self.binary.name: str(self.binary)})

    def close(self) -> None:
        """Remove the root file system."""
        if self._top is not None:
            shutil.rmtree(self._top, ignore_errors=True)
            self._top = None


def _version(text: str) -> str:
    found = [line.partition(":")[2].strip() for line in text.splitlines() if line.strip().startswith("Version:")]
    return found[0] if found else ""


def shim(spec: str) -> ShimSubject:
    """The subject for ``shim:PATH[?like=NAME]``.

    Raises:
        SubjectError: no path, or no absolute one; another question than ``like``.
    """
    file, _, question = spec.removeprefix("shim:").partition("?")
    asked = parse_qs(question)
    if not Path(file).is_absolute():
        raise SubjectError(f"{spec!r}: expected shim:/path/of/containerd-shim-NAME-VERSION")
    if question and set(asked) != {"like"}:
        raise SubjectError(f"{spec!r}: after the path only ?like=containerd-shim-NAME-VERSION can stand")
    return ShimSubject(spec, Path(file), asked.get("like", ()))
