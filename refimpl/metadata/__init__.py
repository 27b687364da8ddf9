"""The metadata database: namespaces, records and reference counts over a small key-value interface."""
