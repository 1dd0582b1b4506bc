"""What Segment says about a refusal, without the words of the people whose messages it refused."""

import json
import re
from base64 import b64encode
from collections.abc import Iterator, Sequence
from typing import Any

LONGEST = 200
LONGEST_ANSWER = 2_000

# Segment's own words, of use to whoever reads the reason, and nobody's secret.
KNOWN = re.compile(
    "bad|batch|body|bytes|exceeds|expected|field|json|invalid|large|limit|malformed|messages?|missing|must|not|"
    "parse|properties|request|required|size|timestamp|too|type|unknown|userid"
).fullmatch

_ESCAPE = re.compile(r"\\u([0-9a-f]{4})", re.IGNORECASE)
_WORD = re.compile(r"\w{3,}|[^\W\x00-\x7f]+")
_GAPS = re.compile(r"\.{3}(?:[\s\W]*\.{3})+")


def reason_of(code: str, said: str, texts: Sequence[str], key: str) -> str:
    """A short reason: every word of the answer that also occurs in the messages is left out."""
    answer = f"{code}: {said}" if said else code
    for secret in (key, b64encode(f"{key}:".encode()).decode()):  # as it stands in the two places it is sent
        answer = answer.replace(secret, "...")
    answer = _ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), answer[:LONGEST_ANSWER])
    held = "\n".join(value for text in texts for value in _strings(json.loads(text))).casefold()
    shown = _WORD.sub(lambda word: _shown(word[0], held), answer)
    return " ".join(_GAPS.sub("...", shown).encode("ascii", "ignore").decode().split())[:LONGEST]


def _shown(word: str, held: str) -> str:
    folded = word.casefold()
    return word if KNOWN(folded) or (word.isascii() and folded not in held) else "..."


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield str(key)
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
    elif value is not None:
        yield str(value)
