"""What the commands do, each behind its line in `cli.py`; imported only when it is called."""
