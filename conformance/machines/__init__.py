"""Randomised comparison: the same random operations on two subjects, compared answer by answer.

Three Hypothesis state machines (``content``, ``snapshots``, ``leases``) draw operations, ``pair`` performs each on both
subjects and compares what came of it, ``freedoms`` names the differences that the contract allows, ``play`` runs a
machine for some seconds and hands back the shortest sequence of calls on which the subjects differ.
"""
