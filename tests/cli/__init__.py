"""Tests of refimpl.cli."""
