"""Coordination: who leads, who is where. It will live here; there is nothing yet, and a client speaks to one node."""
