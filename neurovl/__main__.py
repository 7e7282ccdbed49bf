"""`python -m neurovl` is the command `neurovl`."""

from .cli import main

main()
