"""The leaves in memory: the same plugins as ``backends.real``, over a ``FakeHost`` instead of Linux."""
