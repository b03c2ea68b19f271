"""Records of what was measured or done: data, saved and loaded; nothing is measured here."""
