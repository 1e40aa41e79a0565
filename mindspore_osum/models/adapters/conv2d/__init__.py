"""The form of OSUM-Pangu's text (section 3.1, eq. 2): two 2-D convolutions and a linear layer."""
