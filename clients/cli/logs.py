"""How a server writes its log to standard error: text for people, or one JSON object a line.

The law here: libraries only ask for loggers below "dompbus"; this is the one place that decides where they go.
"""

import json
import logging
import time

from dompbus.config import LogSection

__all__ = ["start_logging"]


def start_logging(log: LogSection) -> None:
    """Send everything at `log.level` or above to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonLines() if log.json else _text())
    root = logging.getLogger("dompbus")
    root.handlers[:] = [handler]
    root.propagate = False
    root.setLevel(log.level.upper())


def _text() -> logging.Formatter:
    formatter = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    return formatter


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """One JSON object, without line breaks."""
        entry = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["trace"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)
