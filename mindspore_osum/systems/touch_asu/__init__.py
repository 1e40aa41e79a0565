"""WEST's TouchASU (Zhang et al. 2025): Whisper encoder, projector, Qwen2 or Qwen3 with or without LoRA."""
