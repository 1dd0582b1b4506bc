"""One run: what to request, the verdict on each row, the loop, and delivery."""
