"""One thin function per rule: read files, call a lower floor, write files."""
