"""Replay of an exchange's trade file over the bus into the ledger."""
