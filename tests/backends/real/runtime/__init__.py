"""Tests of refimpl.backends.real.runtime."""
