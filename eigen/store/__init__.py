"""Eigenpairs on disk: packed HDF5 files, shards, verification, maps at image size."""
