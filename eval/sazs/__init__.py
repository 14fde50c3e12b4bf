"""SAZS: inference, protocols, metrics, fusion with eigenvectors."""
