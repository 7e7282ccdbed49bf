"""`python -m neurovl` is the command `neurovl`."""

from neurovl.cli import main

main()
