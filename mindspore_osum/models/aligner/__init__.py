"""From encoder frames to the decoder's embeddings by one linear layer (arXiv 2406.13357, section 2.1)."""
