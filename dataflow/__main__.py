"""`python -m dataflow` is the command `dataflow`."""

from dataflow.cli import main

if __name__ == "__main__":
    main()
