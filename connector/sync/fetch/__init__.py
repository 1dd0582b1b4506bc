"""Request pages, decide what they mean, and write it."""
