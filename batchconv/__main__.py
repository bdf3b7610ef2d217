"""`python -m batchconv` is the command line."""

from batchconv.cli import main

if __name__ == "__main__":
    main()
