"""Data that needs no download: a generated world, and the photos of scikit-image."""
