"""Where the two daemons answer differently, and why that is right."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from refimpl.contract.errors import InvalidArgument
from refimpl.contract.identifiers import validate_namespace
from tests.acceptance.answers import Answer, Difference
from tests.acceptance.odd_requests import Request
from tests.acceptance.odd_streams import NOT_UTF8, WRONG_KIND

_YEAR_ONE = "updated_at: -62135596800.000000000"


def _list_without_updated(found: Difference) -> bool:
    left = [each.replace(_YEAR_ONE, "updated_at") for each in found.left.messages]
    right = [re.sub(r"updated_at: <time \d+>", "updated_at", each) for each in found.right.messages]
    return found.request.method == "Content/List" and _times(left) == _times(right)


def _times(messages: list[str]) -> list[str]:
    return [re.sub(r"<time \d+>", "<time>", each) for each in messages]


def _same_status(left: Answer, right: Answer) -> bool:
    return left.code == right.code and left.messages == right.messages


def _format_directive(found: Difference) -> bool:
    return "(MISSING)" in found.left.text and _same_status(found.left, found.right)


def _cut_character(found: Difference) -> bool:
    return "parse error" in found.left.text and "\ufffd" in found.left.text and _same_status(found.left, found.right)


def _unpublished(found: Difference) -> bool:
    return (
        found.request.method in {"Namespaces/Create", "Namespaces/Update"}
        and found.left.text.startswith("failed publishing event: namespace")
        and found.right.code == "OK"
    )


def _time_out_of_range(found: Difference) -> bool:
    return (
        found.left.text.startswith("grpc: error unmarshalling request: timestamp: ")
        and found.right.text == "timestamp of forwarded event is out of range: invalid argument"
    )


def _name_refused(found: Difference) -> bool:
    return (
        found.request.method == "Namespaces/Update"
        and found.left.code in {"OK", "UNKNOWN"}
        and found.right.code == "INVALID_ARGUMENT"
        and found.right.text.startswith("identifier ")
    )


def _empty_resource(found: Difference) -> bool:
    return (
        found.request.method == "Leases/AddResource"
        and found.left.text in {"key required", "bucket name required"}
        and found.right.code == "INVALID_ARGUMENT"
    )


def _merged_extensions(found: Difference) -> bool:
    def bare(messages: Sequence[str]) -> list[str]:
        return _times([re.sub(r", extensions: \{.*?\}\}", "", each) for each in messages])

    return (
        found.request.method.startswith("Containers/")
        and found.left.code == found.right.code == "OK"
        and bare(found.left.messages) == bare(found.right.messages)
    )


def _no_mounts(found: Difference) -> bool:
    return found.request.method == "Diff/Apply" and found.right.text.startswith("no mounts to apply a layer to")


def _place_of_mount(found: Difference) -> bool:
    def bare(text: str) -> str:
        text = re.sub(r"mount callback failed on \S+:", "mount callback failed:", text)
        return re.sub(r"failed to mount:? \S+:", "failed to mount:", text)

    return (
        found.request.method.startswith("Diff/")
        and found.left.code == found.right.code
        and bare(found.left.text) == bare(found.right.text)
    )


def _go_reads_json(found: Difference) -> bool:
    words = ("invalid character ", "unexpected end of JSON input", "json: ")
    return (
        found.request.method.startswith("Tasks/")
        and any(word in found.left.text for word in words)
        and found.left.code == found.right.code
    )


def _time_is_over(found: Difference) -> bool:
    return found.left.late and found.right.late


def _no_message(found: Difference) -> bool:
    data = found.request.messages[0] if found.request.messages else b""
    if not isinstance(data, bytes):
        return False
    refused = found.left.code == found.right.code == "INTERNAL"
    return refused or data in NOT_UTF8 or data in WRONG_KIND


def _bytes_gone(found: Difference) -> bool:
    return (
        found.request.method == "Content/Status"
        and found.left.code == found.right.code
        and re.search(r": stat \S+/ingest/[0-9a-f]{64}/data: no such file or directory: not found$", found.left.text)
        is not None
    )


def _own_version(found: Difference) -> bool:
    return found.request.method == "Version/Version" and found.left.code == found.right.code == "OK"


def _no_copy(found: Difference) -> bool:
    return found.left.text == "failed to read expected number of bytes: unexpected EOF" and found.right.code == "OK"


_NEEDED = {
    "Diff/Apply": "diff",
    "Events/Publish": "event",
    "Events/Forward": "envelope",
    "Tasks/Exec": "spec",
    "Tasks/Update": "resources",
}


def harms(request: Request) -> bool:
    """Whether a request leaves containerd 1.6, its shim or what it keeps so that nothing can be compared afterwards.

    It follows a message that is not there, and dies (DIF-010, EVT-006, EVT-009, and in the shim). An exec without id is
    taken for the task's own process, which goes while the task stays and cannot be ended.
    """
    message: Any = request.messages[0]
    if isinstance(message, bytes):
        return False
    needed = _NEEDED.get(request.method)
    if needed is not None and not message.HasField(needed):
        return True
    if request.method == "Events/Forward":
        return not message.envelope.HasField("event")
    if request.method == "Namespaces/Update":
        return _leaves_unnamable(message)
    return request.method == "Tasks/DeleteProcess" and not message.exec_id


def _leaves_unnamable(message: Any) -> bool:
    """Whether containerd makes a namespace of it that no other call can name, not even to remove it (NSP-014)."""
    try:
        validate_namespace(message.namespace.name.replace("{ns}", "ns"))
    except InvalidArgument:
        return bool(message.namespace.labels or message.update_mask.paths)
    return False


KNOWN: Mapping[str, Callable[[Difference], bool]] = {
    "CNT-062: entries of List may or may not have updated_at": _list_without_updated,
    "SVC-041: the text of a request is no format": _format_directive,
    "an error of the filter parser marks a character, not one byte of it": _cut_character,
    "a time that no client can read is an invalid argument here": _time_out_of_range,
    "NSP-014: a namespace that no other call could use may be refused": _name_refused,
    "LEA-013: an empty name is an invalid argument here": _empty_resource,
    "CTR-026: containerd merges extensions and answers as if it had replaced them": _merged_extensions,
    "DIF-014: no mounts to apply a layer to is the client's mistake": _no_mounts,
    "where a temporary mount was is of no use to a client; its source may be": _place_of_mount,
    "what is wrong with JSON is said in the words of Go's library": _go_reads_json,
    "a client may notice that its time is over before the daemon does, or the shim": _time_is_over,
    "how bytes that are no message are called is the library's affair; SVC-061": _no_message,
    "containerd names a file of its own that is not there": _bytes_gone,
    "each daemon has a version of its own": _own_version,
    "containerd cannot take over shared bytes behind those that an ingest has already": _no_copy,
    "NSP-009: without a usable header the change is made and may be answered either way": _unpublished,
}
"""Reason by reason, whether a difference is due to it."""


def reason(found: Difference) -> str:
    """Why a difference is right; empty if nobody has said so."""
    return next((why for why, holds in KNOWN.items() if holds(found)), "")
