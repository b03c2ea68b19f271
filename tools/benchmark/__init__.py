"""The benchmark behind tools/bench: cases, methods, scores, table. Linux only."""
