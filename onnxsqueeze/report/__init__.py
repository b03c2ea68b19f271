"""The report: its numbers, and how they are shown in a terminal, as JSON and as one HTML file."""
