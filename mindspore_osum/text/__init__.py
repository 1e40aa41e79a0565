"""Text: the tokenizer, the published requests and the layout of hybrid text/speech sequences."""
