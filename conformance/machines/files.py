"""Changes of files below a mounted snapshot, as data, so that a failing sequence can be made shorter."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from conformance.machines.pair import Pair

_PATHS = st.sampled_from(["/f", "/d", "/g", "/d/f", "/f", "/d", "/d/e", "/d/e/f"])
_MODES = st.sampled_from([0o644, 0o600, 0o755, 0o4755])

# A real mount is no root: what leads above it would lead into the machine's own files.
_TEXTS = st.sampled_from(["f", "nowhere", "e/f"])

CHANGES: st.SearchStrategy[tuple[str, tuple[Any, ...]]] = st.one_of(
    st.tuples(st.sampled_from(["fill", "renew", "fill", "renew"]), st.just(())),
    st.tuples(st.just("write"), st.tuples(_PATHS, st.sampled_from([b"", b"one", b"two!"]), _MODES)),
    st.tuples(st.just("mkdir"), st.tuples(_PATHS, st.sampled_from([0o755, 0o700]))),
    st.tuples(st.sampled_from(["unlink", "rmdir", "rmtree"]), st.tuples(_PATHS)),
    st.tuples(st.sampled_from(["rename", "link"]), st.tuples(_PATHS, _PATHS)),
    st.tuples(st.just("symlink"), st.tuples(_TEXTS, _PATHS)),
    st.tuples(st.just("chmod"), st.tuples(_PATHS, _MODES)),
    st.tuples(st.just("truncate"), st.tuples(_PATHS, st.sampled_from([0, 2, 9]))),
    st.tuples(st.just("lchown"), st.tuples(_PATHS, st.just(7), st.sampled_from([7, 8]))),
    st.tuples(st.just("setxattr"), st.tuples(_PATHS, st.just("user.note"), st.sampled_from([b"1", b"2"]))),
)
"""A method of a RootFS and its arguments, or the name of a sequence of them."""

_SEQUENCES: dict[str, tuple[tuple[str, tuple[Any, ...]], ...]] = {
    # Some files to work on.
    "fill": (
        ("mkdir", ("/d", 0o755)),
        ("write", ("/d/f", b"deep", 0o644)),
        ("write", ("/f", b"flat", 0o600)),
        ("mkdir", ("/d/e", 0o700)),
    ),
    # A directory that takes the place of another one.
    "renew": (("rmtree", ("/d",)), ("mkdir", ("/d", 0o711)), ("write", ("/d/g", b"new", 0o644))),
}


def change(pair: Pair, drawn: tuple[str, tuple[Any, ...]]) -> None:
    """Make one change on both sides; that it fails is as good an outcome as any, if it fails alike."""
    method, arguments = drawn
    if method in _SEQUENCES:
        for each in _SEQUENCES[method]:
            change(pair, each)
        return
    if method == "rmtree" and not all(side.named["fs"].exists(arguments[0]) for side in pair.sides):
        return  # no system call but a loop around several: how it finds out that there is nothing is its own affair
    pair.call("fs", method, *arguments)
