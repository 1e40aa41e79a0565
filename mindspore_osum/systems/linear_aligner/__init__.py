"""The linear aligner (arXiv 2406.13357): Whisper's encoder, one linear layer, a Llama-shaped decoder."""
