"""OSUM and OSUM-Pangu: Whisper encoder, adapter, decoder with LoRA."""
