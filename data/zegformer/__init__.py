"""Data sets and transforms of ZegFormer (COCO-Stuff, VOC, ADE20k-Full)."""
