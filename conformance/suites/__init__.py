"""The checks, one module per area. Named after the areas; collected by ``conformance.plugin``."""
