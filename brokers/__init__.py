"""Coordination: who leads, who is where. Brokers introduce peers; no message passes through them."""
