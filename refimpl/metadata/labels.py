"""Labels of blobs and snapshots: what an update makes of them, how long they may be, which of them a back end sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from refimpl.contract.errors import InvalidArgument
from refimpl.contract.fieldpaths import map_key, with_key
from refimpl.contract.identifiers import validate_labels
from refimpl.contract.quoting import quoted

_INHERITED_PREFIX = "containerd.io/snapshot/"
SNAPSHOT_REF = "containerd.io/snapshot.ref"
"""Names the snapshot that a remote snapshotter may have ready (SNP-100 to 105)."""


def updated(
    before: Mapping[str, str], wanted: Mapping[str, str], fieldpaths: Sequence[str], record: str
) -> dict[str, str]:
    """The labels after an update, to be ``validated``: one that is too long is refused also where it would not be kept.

    Args:
        fieldpaths: ``labels.<key>`` takes over that key (everything behind the dot, no quoting), ``labels`` or no path
            at all takes over everything (CNT-054, CNT-055, SNP-064 to 067).
        record: what is updated, for the text of the error.

    Raises:
        InvalidArgument: any other path; nothing of the update counts then (CNT-057, SNP-068).
    """
    labels = dict(before) if fieldpaths else dict(wanted)
    for path in fieldpaths:
        key = map_key(path, "labels")
        if key is not None:
            labels = with_key(labels, wanted, key)
        elif path == "labels":
            labels = dict(wanted)
        else:
            raise InvalidArgument(f"cannot update {quoted(path)} field on {record}")
    return labels


def without_empty(labels: Mapping[str, str] | None) -> dict[str, str]:
    """What is kept: an empty value is no label (MET-034)."""
    return {key: value for key, value in (labels or {}).items() if value}


def validated(labels: Mapping[str, str] | None, record: str) -> dict[str, str]:
    """Labels that may be stored, without the empty ones.

    Args:
        record: what has the labels, for the text of the error.

    Raises:
        InvalidArgument: one is longer than 4096 bytes, key and value together (CNT-029, CNT-059, SNP-059).
    """
    try:
        validate_labels(labels or {})
    except InvalidArgument as err:
        raise InvalidArgument(f"{record}.Labels: {err.message}") from err
    return without_empty(labels)


def inherited(labels: Mapping[str, str]) -> dict[str, str]:
    """The labels that a snapshotter gets to see (SNP-063)."""
    return {key: value for key, value in labels.items() if key.startswith(_INHERITED_PREFIX) or key == SNAPSHOT_REF}
