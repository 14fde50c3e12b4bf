"""Images and masks on disk, splits, class names, text embeddings, the generated world."""
