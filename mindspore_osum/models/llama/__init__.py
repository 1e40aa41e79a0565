"""openPangu-Embedded and its Llama-shaped relatives."""
