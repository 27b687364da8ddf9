"""Tests of refimpl.services."""
