"""Training ZegFormer."""
