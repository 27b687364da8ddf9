"""Tests of refimpl.backends.fake."""
