"""Plugins as somebody outside the project would write them, to be served as proxy plugins and judged by the suite."""
