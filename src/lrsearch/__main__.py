"""``python -m lrsearch``: the command line."""

from lrsearch.cli import main

if __name__ == "__main__":
    main()
