"""CLIP: text and image towers, tokenizer, prompts, published weight files."""
