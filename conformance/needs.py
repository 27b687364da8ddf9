"""The words for what a check needs, and how a skip explains that one is missing.

A subject offers some of these words (its capabilities, declared or probed); a check whose needs are not all offered is
skipped with the sentence below. ``a|b`` in a needs list means that either will do.
"""

from __future__ import annotations

NEEDS: dict[str, str] = {
    "mount": "the mounts of this subject cannot be performed from here: run as root, on the machine where it runs",
    "wire": "the subject is no gRPC server",
    "root": "this process is not root",
    "spawn": "this is not a daemon that the run can start with a configuration of its own, as daemon:KIND is",
    "config": "this is not a daemon that the run can start with a configuration of its own, as daemon:KIND is",
    "restart": "this is not a daemon that the run may stop and start again",
    "kill": "this is not a daemon that the run may kill",
    "disk": "the subject's root directory cannot be looked into",
    "bolt": "the subject's meta.db cannot be opened",
    "log": "the subject's log cannot be read: it is that of a daemon which the run starts, daemon:KIND",
    "in-process": "the plugin object is not in this process, as it is with fake, real and python:MODULE:FACTORY",
    "proxy": "the subject cannot be given a proxy plugin of ours",
    "ctr": "the command ctr is not installed or the subject has no socket",
    "ttrpc": "the subject has no ttrpc socket",
    "command": "the subject is no process of its own: it has no command line",
    "tcp": "the subject listens on no TCP address",
    "tls": "the subject offers no TLS",
    "registry": "no registry can be run here",
    "strace": "strace is not installed, or this is not a daemon with real backends that the run starts",
    "overlayfs": "the subject has no overlayfs snapshotter",
    "btrfs": "the subject has no btrfs snapshotter",
    "dm-thin": "the subject has no device-mapper thin pool",
    "zfs": "the subject has no zfs",
    "aufs": "the subject has no aufs",
    "erofs": "the subject has no erofs",
    "loop": "there is no /dev/loop-control or no mkfs.ext4 here",
    "fuse": "there is no /dev/fuse here",
    "mknod": "device nodes cannot be made here",
    "xattr": "the file system keeps no extended attributes",
    "idmap": "no id-mapped mounts here",
    "userns": "no user namespaces here",
    "two-uids": "this process cannot act as a second user: it takes root and setpriv",
    "runc": "the subject runs no containers",
    "shim": "the subject starts no shims, or containerd-shim-runc-v2 is not installed",
    "shim-binary": "a shim is judged alone, as shim:/path/containerd-shim-NAME-VERSION",
    "oci": "the subject runs its processes without an OCI runtime",
    "cgroup-v1": "this machine has no control groups of version 1",
    "cgroup-v2": "this machine has control groups of version 1: it takes one with version 2 alone",
    "fifo": "no fifos here",
    "criu": "criu is not installed",
    "cni": "no CNI plugins here",
    "seccomp": "no seccomp here",
    "apparmor": "no apparmor here",
    "cap-sys-resource": "CAP_SYS_RESOURCE is missing",
    # Surfaces: which protocols a subject serves at all. A fixture asks for them by itself.
    "content": "the subject has no content store",
    "snapshotter": "the subject has no snapshotter",
    "images": "the subject has no image store",
    "containers": "the subject has no container store",
    "namespaces": "the subject has no namespaces",
    "leases": "the subject has no leases",
    "events": "the subject has no event service",
    "diff": "the subject has no differ",
    "introspection": "the subject does not tell of its plugins",
    "tasks": "the subject runs no containers",
    "gc": "the subject has no garbage collector",
}


def missing(needs: frozenset[str], offered: frozenset[str]) -> str:
    """Why a check with these needs cannot run; empty if it can."""
    lacking = [need for need in sorted(needs) if not any(word in offered for word in need.split("|"))]
    return "; ".join(f"needs {need}: {NEEDS[need.split('|')[0]]}" for need in lacking)
