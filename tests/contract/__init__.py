"""Tests of the contract: its values, its errors, its small languages."""
