"""Tests of refimpl.backends.real.bolt."""
