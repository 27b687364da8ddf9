"""What every snapshotter has in common, whichever world its files are in; both worlds' snapshotters use it.

``records`` is the database that says what each key is and stands on (``record`` one entry of it, ``store`` the file),
``layered`` the snapshotter around it, ``config`` the plugins' sections of the configuration. What differs, the storage,
comes in as ``layered.Layers``. Imports contract only.
"""
