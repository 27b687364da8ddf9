"""Mutants: the fakes with one thing broken each, to show that the checks notice.

One module per area, one line or one small function per mutant; ``conformance.mutants.engine`` has the words.
"""
