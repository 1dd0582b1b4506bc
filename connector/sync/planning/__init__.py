"""What to request next, and why: probes, their priority, how often rows arrive; without I/O."""
