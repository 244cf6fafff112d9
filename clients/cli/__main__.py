"""The command's entry: of the installed script `dompbus`, and of `python -m dompbus.clients.cli`.

The law here: nothing is imported before Ctrl-C can be answered, so that it never prints a trace.
"""

import sys

__all__ = ["entry"]

_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def entry() -> int:
    """Run the command and return its exit code."""
    try:
        from dompbus.clients.cli.main import main

        return main()
    except KeyboardInterrupt:
        return _INTERRUPTED


if __name__ == "__main__":
    sys.exit(entry())
