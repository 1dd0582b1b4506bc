"""What is asked next, and why: probes, their priority, how often rows come; without I/O."""
