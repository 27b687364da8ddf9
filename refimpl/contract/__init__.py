"""The contract: what every plugin type promises, as Protocols and value types.

One module per plugin type. Nothing here does I/O and nothing here imports anything but the standard library, so a
student can read it alone, a checker can be written against it, and real and fake backends meet nowhere else.
"""
