"""The shells: sockets, threads and clocks around the cores."""
