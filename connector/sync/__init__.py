"""The work: what to ask for, how a row is judged, the loop, and delivery."""
