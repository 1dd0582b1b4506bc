"""Names for what must not be kept itself: digests made with random keys that belong to this store."""

import hashlib
import hmac
import secrets

from sqlalchemy import Connection, select

from connector.state.tables import keys
from connector.state.writing import add

KEY_BYTES = 32


def key(db: Connection, name: str) -> bytes:
    """The store's key of that name; empty before it was made."""
    return bytes.fromhex(db.execute(select(keys.c.value).where(keys.c.name == name)).scalar() or "")


def made(db: Connection, name: str) -> bytes:
    """The store's key of that name, drawn now if this is its first use."""
    add(db, keys, [{"name": name, "value": secrets.token_hex(KEY_BYTES)}])
    return key(db, name)


def digest(with_key: bytes, text: str) -> str:
    """What a text is known by; without the key nobody can find out by trying."""
    return hmac.new(with_key, text.encode(), hashlib.sha256).hexdigest()
