"""ttrpc: the small RPC protocol between containerd and its shims, over a unix socket.

``frames`` is the wire, ``server`` answers unary calls. No Python implementation exists elsewhere.
"""
