"""Floor 2: picture -> features -> affinity -> Laplacian -> eigenpairs -> shards and masks."""
