"""Which way of carrying tokens from frame to frame keeps the labels of a dense network, at equal tokens."""
