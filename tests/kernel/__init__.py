"""Tests of refimpl.kernel."""
