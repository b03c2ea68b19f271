"""Instruments: run a model, return a record."""
