"""HTTP for the other packages: one client, bounded in time and bytes; failures in plain words."""
