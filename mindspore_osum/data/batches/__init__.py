"""From utterances to batches of static shapes."""
