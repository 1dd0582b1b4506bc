"""beamer-segment: brings what users say in Beamer into Segment."""

__version__ = "0.1.0"
