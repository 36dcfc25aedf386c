"""`python -m pombo` is the `pombo` command."""

from pombo.run.cli import main

main()
