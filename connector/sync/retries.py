"""Whether another attempt is worth its request, and after how long; without I/O."""

from connector.errors import Transient

ATTEMPTS = 4
FIRST_WAIT = 1.0
LONGEST_WAIT = 30.0


def wait_before(attempt: int, error: Transient, chance: float) -> float | None:
    """Seconds to wait after the `attempt`-th failure (from 1), or None to give up.

    Exponential; `chance`, from 0 to 1, jitters its upper half; the server's own wish is a lower bound.
    """
    if attempt >= ATTEMPTS:
        return None
    ceiling = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** (attempt - 1))
    jittered: float = ceiling * (0.5 + chance / 2)
    return max(error.after or 0.0, jittered)
