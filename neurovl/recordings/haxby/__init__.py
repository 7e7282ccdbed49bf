"""Haxby et al. 2001: real brains, eight kinds of objects; its reader, and its form as a table."""

from neurovl.recordings.haxby.haxby_folder import HaxbyRecordings, find

__all__ = ["HaxbyRecordings", "find"]
