"""The engine: recordings and requests in, answers out."""
