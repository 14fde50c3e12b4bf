"""Splits, episodes and transforms of the SAZS protocols (PASCAL-5i, COCO-20i)."""
