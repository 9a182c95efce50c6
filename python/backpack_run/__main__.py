"""`python -m backpack_run`: the program."""

from ._program import main

main()
