"""What becomes of a row; without I/O."""
