"""What reading a list shows, page by page: counters, passes, blocks of parents; without I/O."""
