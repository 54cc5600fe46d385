"""The dual encoder: its towers, tokenizers, weights, and the bundle that holds them."""
