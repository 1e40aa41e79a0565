"""Sound that is still coming in: from a pipe, a growing file or a microphone to words as they are said."""
