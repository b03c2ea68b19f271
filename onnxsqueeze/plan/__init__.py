"""Decisions as data, and how they are made from facts."""
