"""The daemon: `schedule` runs syncs when they are due, and serves health and metrics."""
