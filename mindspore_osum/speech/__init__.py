"""From a recording to what the encoder reads: decoding and resampling (`audio`), log-mel (`features`)."""
