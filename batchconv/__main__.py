"""`python -m batchconv` is the command line."""

from batchconv.cli import program

if __name__ == "__main__":
    program()
