"""Where restarted tasks write: the log labels of the restart monitor, as URIs for a runtime (RST-017 to 019).

Texts are taken and written as Go's ``net/url`` does, because a client reads them back from the task.
"""

from __future__ import annotations

import posixpath
import re
from urllib.parse import quote, unquote

from refimpl.contract.errors import Unknown

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2}).{0,2}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PARTS = re.compile(r"(?P<head>(?:[A-Za-z][A-Za-z0-9+.-]*:)?(?://[^/?#]*)?)(?P<path>[^?#]*)(?P<tail>.*)", re.DOTALL)
_KEPT = "$&+,/:;=@"
_PLAIN_PATH = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@\[\]/]|%[0-9A-Fa-f]{2})*")


def parsed_uri(text: str) -> str:
    """A URI as it goes to the runtime; a path that is not escaped is escaped.

    Raises:
        Unknown: not a URI (RST-018).
    """
    reason = ""
    if _CONTROL.search(text):
        reason = "net/url: invalid control character in URL"
    elif text.startswith(":"):
        reason = "missing protocol scheme"
    elif bad := _BAD_ESCAPE.search(text):
        reason = f'invalid URL escape "{bad[0]}"'
    if reason:
        raise Unknown(f'failed to parse {text} into url: parse "{text}": {reason}')
    parts = _PARTS.fullmatch(text)
    assert parts is not None, "every part may be empty"
    path = parts["path"]
    if not _PLAIN_PATH.fullmatch(path):
        path = _escaped(unquote(path, errors="surrogateescape"))
    return f"{parts['head']}{path}{parts['tail']}"


def file_uri(path: str) -> str:
    """The URI of a log file.

    Raises:
        Unknown: not an absolute path.
    """
    if not path.startswith("/"):
        raise Unknown("absolute path needed")
    # normpath keeps two leading slashes, Go's Clean does not.
    return f"file://{_escaped('/' + posixpath.normpath(path).lstrip('/'))}"


def _escaped(path: str) -> str:
    return quote(path, safe=_KEPT, errors="surrogateescape")
