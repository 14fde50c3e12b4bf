"""Segment your own photos, from the command line (`demo.py`) or in a browser (`web.py`)."""
