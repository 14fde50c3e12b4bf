"""Floor 1: pictures and masks on disk, splits, class names and their embeddings, the generated world."""
