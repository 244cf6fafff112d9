"""What runs in the processes of a round: one module for each contestant, `python -m perf.peers.<module> ROLE OPTIONS`.

The law here: what stands beside us is written as its own users would write it, on its documented fast path.
"""
