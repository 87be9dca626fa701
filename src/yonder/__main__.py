"""`python -m yonder`."""

from yonder.commands.cli import main

main()
