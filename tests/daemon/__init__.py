"""Tests of refimpl.daemon."""
