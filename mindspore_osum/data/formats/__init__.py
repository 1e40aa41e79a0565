"""Manifests, shards and corpora, as they are published."""
