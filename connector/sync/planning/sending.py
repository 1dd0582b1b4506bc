"""How many of a stream's rows are sent, which is what makes them worth a request; without I/O.

What is held back (by default rows of users without an id, and what the team says itself) costs requests like
any other row, for a counter does not tell them apart, but nobody waits for it.
"""

from dataclasses import replace

from connector.state.progress import StreamState

# Each row makes what is known count a little less: some hundred rows are remembered.
REMEMBERED = 0.99
# So many rows weigh as much as the belief that all are sent.
ALIKE = 10.0


def after(state: StreamState, sent: int, held: int) -> StreamState:
    """The stream after so many new rows."""
    fading = REMEMBERED ** (sent + held)
    return replace(state, judged=state.judged * fading + sent + held, wanted=state.wanted * fading + sent)


def share(state: StreamState) -> float:
    """What share of the rows to come will be sent."""
    return (ALIKE + state.wanted) / (ALIKE + state.judged)
