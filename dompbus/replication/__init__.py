"""Machines and the log that drives them."""
