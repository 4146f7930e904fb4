"""`python -m voxtile`: the command line, where the script `voxtile` is not on the path."""

from voxtile.cli import main

main()
