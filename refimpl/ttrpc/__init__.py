"""ttrpc: the small RPC protocol between containerd and its shims, over any stream socket.

``frames`` is the wire; ``server`` answers calls and ``client`` makes them, unary ones and (as of ttrpc 1.2) streams,
whose shared parts are in ``inbox`` and ``streams``. No Python implementation exists elsewhere.
"""
