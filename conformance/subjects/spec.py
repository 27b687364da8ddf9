"""Subject specifications: the words on the command line."""

from __future__ import annotations

import importlib

from conformance.subjects.base import Subject, SubjectError

FORMS = """\
fake                          all plugins with fake backends, in this process (the default)
real                          all plugins with real backends, in this process (root)
daemon:fake                   `refimpl serve --backends fake`, started on a temporary root
daemon:real                   `refimpl serve --backends real`, started on a temporary root (root)
daemon:containerd             the installed containerd, started on a temporary root (root)
unix:///path.sock             a daemon that runs already
snapshotter+unix:///p.sock[?id=NAME]   a snapshotter proxy plugin alone
content+unix:///p.sock        a content store proxy plugin alone
diff+unix:///p.sock?daemon=/c.sock     a differ proxy plugin alone, on the content of the daemon at c.sock
shim:/path/containerd-shim-x-v1[?like=containerd-shim-runc-v2]
                              a shim binary alone, which the run plays containerd for; another one's clauses bind it too
python:package.module:factory a plugin object, or a conformance.author.PluginSubject, made by calling factory()"""


def parse(spec: str) -> Subject:
    """The subject for one word.

    Raises:
        SubjectError: the word is none of ``FORMS``.
    """
    for prefix, target in _MAKERS.items():
        if spec == prefix or (prefix.endswith(":") and spec.startswith(prefix)):
            module, _, maker = target.partition(":")
            made: Subject = getattr(importlib.import_module(module), maker)(spec)
            return made
    raise SubjectError(f"{spec!r} is no subject; use one of:\n{FORMS}")


# By name: a run on one kind of subject should not pay for importing the others.
_MAKERS = {
    "fake": "conformance.subjects.fake:FakeSubject",
    "real": "conformance.subjects.real:RealSubject",
    "daemon:": "conformance.subjects.daemon:spawned",
    "unix:": "conformance.subjects.daemon:RunningDaemon",
    "snapshotter+unix:": "conformance.subjects.proxy:proxy",
    "content+unix:": "conformance.subjects.proxy:proxy",
    "diff+unix:": "conformance.subjects.proxy:proxy",
    "shim:": "conformance.subjects.shim:shim",
    "python:": "conformance.subjects.python:load",
    # Used by `--mutants`: a fake with one thing broken.
    "mutant:": "conformance.mutants.subject:planted",
}
