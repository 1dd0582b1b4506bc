"""What reading a list shows, page by page: counters, sweeps, blocks of parents; without I/O."""
