"""What is asked next, and why: probes, what they are worth, how often rows come; without I/O."""
