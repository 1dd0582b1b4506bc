"""How late rows will be on a budget; without I/O."""
