"""Carry out decisions; decide nothing."""
