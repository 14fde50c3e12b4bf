"""Segments from eigenvectors: k-way partitions, their features and neighbours, and colours."""

from eigen.segments.partition import Segments, SegmentSpec, adjacency, segment_features, segments

__all__ = ["SegmentSpec", "Segments", "adjacency", "segment_features", "segments"]
