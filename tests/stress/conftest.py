"""What is left of connections that were cut is swept up where it was left."""

import gc
import warnings
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def abandoned_connections() -> Iterator[None]:
    """The pool gives up a connection whose server is gone; its driver complains when it is collected.

    That would be in some other test, and there a warning is an error.
    """
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
