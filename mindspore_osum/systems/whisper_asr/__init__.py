"""Whisper (Radford et al. 2022): transcripts and English translations of speech in a hundred languages."""
