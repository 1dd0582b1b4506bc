"""Segment's side: the events as data, rows shaped into messages, and the one client."""
