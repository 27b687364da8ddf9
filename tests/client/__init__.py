"""Tests of refimpl.client."""
