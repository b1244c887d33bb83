"""What runs: the loop, the streams in it, and the life of their models."""
