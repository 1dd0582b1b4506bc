"""A body without its packing, and as text: as lenient as costs nothing, and bounded in size."""

import codecs
import json
import re
import zlib

GZIP, ZLIB, RAW = zlib.MAX_WBITS | 16, zlib.MAX_WBITS, -zlib.MAX_WBITS
GZIP_BEGINS = b"\x1f\x8b"
GZIP_NAMES = ("gzip", "x-gzip")
# Names of codings that change nothing, right ones and wrong ones; the name of a charset is another.
NO_CODINGS = frozenset(("", "identity", "none", "null", "binary", "text", "plain", "7bit", "8bit", "chunked"))
# Taken at a time: what stands behind a member is copied once for each.
WINDOW = 4096

_CHARSET = re.compile(r"""charset\s*=\s*["']?([^\s"';,]+)""", re.IGNORECASE)
# Of what is declared as one of these, much is UTF-8 nevertheless: it is what servers say by themselves.
BY_DEFAULT = frozenset(("iso8859-1", "ascii", "cp1252"))
# Codecs that are no charsets.
NO_CHARSETS = frozenset(("idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined", "utf-7"))


class Larger(Exception):
    """More came out than may."""


def unpacked(body: bytes, encoding: str, most: int) -> bytes | None:
    """The body without its coding, or None where it cannot be had; raises Larger above `most` bytes."""
    named = (coding.strip() for coding in encoding.lower().split(","))
    codings = [coding for coding in named if coding not in NO_CODINGS and not _charset(coding)]
    if not codings or _not_packed(body, codings[0]):
        if len(body) > most:
            raise Larger
        return body
    # Packed twice is packed by no server.
    return _without(body, codings[0], most) if len(codings) == 1 else None


def _not_packed(body: bytes, coding: str) -> bool:
    """Whether a body is as it was made although its head says otherwise, as where a proxy has unpacked it.

    All of gzip begins alike. No other JSON that was packed begins as a list or an object does, but for a few
    bodies in codings that cannot be read here anyway.
    """
    if coding in GZIP_NAMES:
        return not body.startswith(GZIP_BEGINS)
    return body.lstrip()[:1] in (b"[", b"{")


def _without(body: bytes, coding: str, most: int) -> bytes | None:
    if coding in GZIP_NAMES:
        return _inflated(body, GZIP, most)
    if coding != "deflate":
        return None
    # Some leave out what should stand around it.
    plain = _inflated(body, ZLIB, most)
    return _inflated(body, RAW, most) if plain is None else plain


def _inflated(body: bytes, kind: int, most: int) -> bytes | None:
    """What one stream holds, or of gzip, several ones behind each other."""
    plain, at = bytearray(), 0
    while True:
        stream = zlib.decompressobj(kind)
        while not stream.eof:
            piece = body[at : at + WINDOW]
            at += len(piece)
            try:
                plain += stream.decompress(piece, most + 1 - len(plain))
            except zlib.error:
                return None
            if len(plain) > most or stream.unconsumed_tail:
                raise Larger
            if not piece and not stream.eof:
                return None
        at -= len(stream.unused_data)
        # What is no further member is padding.
        if kind != GZIP or body[at : at + 2] != GZIP_BEGINS:
            return bytes(plain)


def text_of(body: bytes, content_type: str = "") -> str:
    """A JSON body as text; one byte that is wrong spoils no page.

    JSON is UTF-8 whatever is declared, by its standard; but what shows otherwise by its bytes, or is declared
    and is no UTF-8, is taken as what it is.
    """
    shown = json.detect_encoding(body)
    declared = _CHARSET.search(content_type)
    charset = _charset(declared[1]) if declared else None
    if charset is None or shown != "utf-8":
        return body.decode(shown, "replace")
    if charset in BY_DEFAULT:
        try:
            return body.decode()
        except UnicodeDecodeError:
            pass
    return body.decode(charset, "replace")


def _charset(name: str) -> str | None:
    """The codec of a charset's name; None if it is none that is known."""
    try:
        codec = codecs.lookup(name)
    except (LookupError, ValueError):
        return None
    known = codec._is_text_encoding and codec.name.replace("_", "-") not in NO_CHARSETS
    return codec.name if known else None
