"""Layer archives: reading, writing, applying and comparing, over any ``contract.mounts.RootFS``.

What a differ does to files, without knowing whether they are Linux's or a fake host's; both worlds' differs use it.
Imports contract and compression libraries only.
"""
