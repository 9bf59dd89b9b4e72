"""`python -m dataflow.cli`, for when the program is not on PATH."""

from dataflow.cli import main

main()
