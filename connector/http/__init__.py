"""HTTP for all neighbours: one client, bounded in time and bytes, whose failures are told in plain words."""
