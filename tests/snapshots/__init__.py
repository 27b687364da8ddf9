"""Tests of refimpl.snapshots."""
