"""The model: what normal looks like, how far a window is from it, and what a gap held."""
