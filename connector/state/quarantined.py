"""Rows in quarantine: their texts are kept for 30 days, and that they were there for ever."""

from connector.state.tables import quarantine

# What is left of a row's text after 30 days; until then it counts as in quarantine.
EMPTIED = ""
IN_QUARANTINE = quarantine.c.body != EMPTIED
