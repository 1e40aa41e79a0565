"""Ray: a cluster of one machine or many, joined or started, and what its processes need."""
