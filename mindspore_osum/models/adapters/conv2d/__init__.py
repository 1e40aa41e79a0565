"""The adapter of the OSUM-Pangu paper (section 3.1, eq. 2): two 2-D convolutions and a linear layer."""
