"""Floor 1: pictures and masks on disk, splits, class names, embeddings, the generated world."""
