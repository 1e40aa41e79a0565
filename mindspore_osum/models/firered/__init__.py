"""FireRedASR's Conformer encoder (Xu et al. 2025), which WEST's TouchASU recipes use."""
