"""What ends a life at once."""


class Wrong(AssertionError):
    """The connector broke a promise."""
