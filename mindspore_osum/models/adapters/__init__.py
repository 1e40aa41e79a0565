"""From encoder frames to speech tokens."""
