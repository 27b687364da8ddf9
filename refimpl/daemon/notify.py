"""Telling systemd (or whoever started us) how far we are: datagrams to ``NOTIFY_SOCKET`` (DMN-049)."""

from __future__ import annotations

import logging
import os
import socket

log = logging.getLogger("refimpl.daemon")

READY, STOPPING = "READY=1", "STOPPING=1"


def notify(state: str) -> None:
    """Send one state, if somebody listens for it; a failure is logged, never fatal."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    # A name that begins with @ is in the abstract namespace.
    target = f"\0{address[1:]}" if address.startswith("@") else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.sendto(state.encode(), target)
    except OSError as error:
        word = "ready" if state == READY else "stop"
        log.warning("notify %s failed", word, extra={"fields": {"error": error}})
