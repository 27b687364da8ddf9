"""Tests of refimpl.testing."""
