"""Your own data: a folder with one table of trials and NIfTI files, read, checked and written."""

from neurovl.recordings.table.table_folder import TableRecordings

__all__ = ["TableRecordings"]
