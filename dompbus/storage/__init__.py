"""Durable storage: the journal that replicated machines stand on, and small files replaced as one."""

from dompbus.storage.atomic import StateFile
from dompbus.storage.files import File, Files, Lock, OsFiles
from dompbus.storage.journal import Journal
from dompbus.storage.record import COMMAND, Record
from dompbus.storage.scan import Segment, Survey, Tail, verify

__all__ = [
    "COMMAND",
    "File",
    "Files",
    "Journal",
    "Lock",
    "OsFiles",
    "Record",
    "Segment",
    "StateFile",
    "Survey",
    "Tail",
    "verify",
]
