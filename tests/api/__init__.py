"""Tests of refimpl.api."""
