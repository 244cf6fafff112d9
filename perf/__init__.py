"""The harness: dompbus side by side with what a user would pick instead (`python -m perf`).

The law here: both sides run in one run, in turn, on one machine; what is judged is their ratio, never an absolute
figure of speed; and a peer that is not installed is said to be "not here", never left out.
"""
