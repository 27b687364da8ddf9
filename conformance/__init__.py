"""The conformance suite for containerd's architecture contract.

Run it with ``refimpl conform [SUBJECT ...]`` or ``pytest --pyargs conformance --subject SUBJECT``. A check is a pytest
function marked with ``clause``; what it judges comes through fixtures of ``conformance.plugin`` that hand out the
contract's protocols, so a check cannot tell a plugin object from a daemon behind a socket.
"""

from conformance.catalogue import clause

__all__ = ["clause"]
