"""Published systems beside ours under one protocol: fitted, painted, captioned, scored, ranked.

Imports evaluation, run and what lies below.
"""
