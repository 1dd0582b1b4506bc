"""An answer's bytes made into values, bounded in size and lenient where that costs nothing."""

import json
import math
import zlib
from typing import Any

from connector.errors import BadAnswer, Transient

LARGEST_ANSWER = 32 * 1024 * 1024
GZIP = zlib.MAX_WBITS | 16


def unpacked(body: bytes, encoding: str) -> bytes | None:
    """The body without its packing, or None where it cannot be had."""
    if encoding.strip().lower() in ("", "identity"):
        return body
    if encoding.strip().lower() not in ("gzip", "x-gzip"):
        return None
    stream = zlib.decompressobj(GZIP)
    try:
        plain = stream.decompress(body, LARGEST_ANSWER)
    except zlib.error:
        return None
    if stream.unconsumed_tail:
        raise BadAnswer("Beamer's answer is larger than any page of rows can be")
    return plain if stream.eof else None


def parsed(body: bytes | None) -> Any:
    """The JSON of a body; one byte or sign that is wrong in a text spoils no page."""
    if body is None:
        raise Transient("Beamer's answer could not be unpacked.")
    text = body.decode("utf-8-sig", "replace")
    try:
        return json.loads(
            text, parse_int=_integer, parse_float=_float, parse_constant=lambda _: None, strict=False
        )
    except RecursionError:
        failure: BadAnswer | Transient = BadAnswer("Beamer's answer is nested too deeply")
    except ValueError:
        failure = Transient("Beamer's answer was not JSON.")
    # Raised out here, for the parser's errors hold the body.
    raise failure


def _integer(digits: str) -> int | str:
    """Longer ones stay text: an id may be that long, a count may not."""
    return int(digits) if len(digits) < 19 else digits


def _float(digits: str) -> float | None:
    value = float(digits)
    return value if math.isfinite(value) else None
