"""Facts that follow from the graph alone: pure functions, never stored."""
