"""The child's end of `perf.processes`: its options, its lines, its alarm clock, and the body that both sides carry.

The law here: a role says `ready` before it waits, and reports its own failure as one `error` line with exit code 1.
"""

import json
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Final

from perf.work import SideFailed

__all__ = ["PRICE", "QUANTITY", "SYMBOL", "TOPIC", "hear", "perform", "say"]

# One small struct is what every bus work carries: symbol, price, quantity, time.
SYMBOL: Final = "XBTUSDT"
PRICE: Final = 64_250.5
QUANTITY: Final = 0.25
TOPIC: Final = "md.kraken.XBTUSDT"

Role = Callable[[dict[str, Any]], None]


def say(**message: Any) -> None:
    """Send one message to the harness."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def hear() -> dict[str, Any]:
    """Wait for one message of the harness; ends the process when the harness is gone."""
    line = sys.stdin.readline()
    if not line:
        raise SystemExit(0)
    return dict(json.loads(line))


def perform(roles: Mapping[str, Role]) -> None:
    """Run the role that the command line names. The process dies by SIGALRM soon after its round's time is up."""
    options = json.loads(sys.argv[2])
    signal.alarm(int(options["timeout"]) + 5)
    try:
        roles[sys.argv[1]](options)
    except SideFailed as failure:
        say(error=str(failure))
        raise SystemExit(1) from None
    except Exception as error:  # the harness shows the line; the trace is for whoever looks at stderr
        traceback.print_exc()
        say(error=f"{type(error).__name__}: {error}")
        raise SystemExit(1) from None
