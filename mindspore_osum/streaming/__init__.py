"""Live transcription of a pipe, a growing file or a microphone."""
