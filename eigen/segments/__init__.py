"""Segments from eigenvectors: k-way partitions, their features and neighbours, and colours."""

from eigen.segments.partition import Segments, adjacency, segment_features, segments

__all__ = ["Segments", "adjacency", "segment_features", "segments"]
