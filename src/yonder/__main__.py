"""`python -m yonder`."""

from yonder.cli import main

main()
