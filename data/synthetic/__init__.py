"""Data that needs no download: a generated world, and the images of scikit-image."""
