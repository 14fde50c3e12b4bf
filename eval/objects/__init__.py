"""Scores of objects and segments that were found without training."""
