"""Data sets on disk: where VOC, COCO and plain folders keep images and masks."""
