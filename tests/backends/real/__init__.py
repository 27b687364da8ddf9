"""Tests of refimpl.backends.real."""
