"""Tests on a kernel of their own: what the machine's kernel lacks is asked of user-mode Linux."""
