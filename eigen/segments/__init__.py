"""Segments from eigenvectors: k-way partitions, their features and neighbours, and colours."""

from eigen.segment_spec import SegmentSpec
from eigen.segments.partition import Segments, adjacency, segment_features, segments

__all__ = ["SegmentSpec", "Segments", "adjacency", "segment_features", "segments"]
