"""Pure NumPy, no graph."""
