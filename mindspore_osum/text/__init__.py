"""Text side: the tokenizer, the prompt sets and the one builder of hybrid text/speech sequences."""
