"""What people read: status, health, summaries, checks, the report."""
