"""`python -m connector` is the same as `beamer-segment`."""

from connector.cli import main

if __name__ == "__main__":
    main()
