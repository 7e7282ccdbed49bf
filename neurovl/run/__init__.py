"""One run folder, typed: its data, tokens, networks and tables. Imports what can decode, and what lies below."""

from neurovl.run.record import read_record, write_record
from neurovl.run.run import Run, find_run, open_run
from neurovl.run.tables import RunTables

__all__ = ["Run", "RunTables", "find_run", "open_run", "read_record", "write_record"]
