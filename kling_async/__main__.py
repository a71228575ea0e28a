"""`python -m kling_async`: the command line."""

from kling_async.cli.app import main

main()
