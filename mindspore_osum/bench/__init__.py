"""`osum bench`: how fast it is, against PyTorch on the same machine with the same weights and threads."""
