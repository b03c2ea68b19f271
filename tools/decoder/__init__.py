"""Decoders to test with; see ``tools/make_decoder --help``."""
