"""Tests of refimpl.backends."""
