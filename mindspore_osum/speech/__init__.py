"""From a recording to the encoder's input: decoding and resampling (`audio`), log-mel (`features`)."""
