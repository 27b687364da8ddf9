"""refimpl: containerd's architecture in Python, one short module per plugin.

Importing this package does nothing: the kernel loads plugins when it is asked to.
"""

__version__ = "0.1.0"
