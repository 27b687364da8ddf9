"""The daemon: everything between the plugins and the machine.

``serve`` is the sequence of a start and a stop; each other module here is one thing that it does: log, sockets,
servers, metrics, debugging, signals, notification, the process itself. Clauses DMN-001 to DMN-070.
"""
