"""Measurements beside the real containerd; not part of the tests, which hold no timed assertion."""
