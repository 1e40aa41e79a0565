"""Published systems, one folder each."""
