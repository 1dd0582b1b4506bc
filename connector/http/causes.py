"""Why a connection failed, in plain words; never with an address, a key or the words of a library."""

import errno
import re
import socket
import ssl
from collections.abc import Iterator

import httpx

# OpenSSL's codes of what is wrong with a certificate.
CERTIFICATES = {
    9: "the certificate is not valid yet",
    10: "the certificate has expired",
    62: "the certificate is for another host name",
    63: "the certificate is for another host name",
    64: "the certificate is for another address",
}
UNTRUSTED = "the certificate is not trusted"
# What the handshake says where plain HTTP, or something else that is not TLS, answers.
NOT_TLS = (
    *("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "RECORD_LAYER_FAILURE"),
    *("PACKET_LENGTH_TOO_LONG", "UNKNOWN_PROTOCOL", "WRONG_SSL_VERSION", "UNEXPECTED_MESSAGE"),
)
SYSTEM = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset",
    errno.EPIPE: "connection reset",
    errno.ECONNABORTED: "connection aborted",
    errno.ENETUNREACH: "the network cannot be reached",
    errno.ENETDOWN: "the network is down",
    errno.EHOSTUNREACH: "the host cannot be reached",
    errno.EHOSTDOWN: "the host is down",
    errno.ETIMEDOUT: "timed out while connecting",
    errno.EACCES: "this machine does not permit the connection",
    errno.EPERM: "this machine does not permit the connection",
    errno.EMFILE: "this process has too many files open",
    errno.ENFILE: "this machine has too many files open",
    errno.EADDRNOTAVAIL: "this machine has no free address or port",
}
# Of our own kinds of failures, from the most specific on.
KINDS: tuple[tuple[type[Exception], str], ...] = (
    (httpx.ConnectTimeout, "timed out while connecting"),
    (httpx.PoolTimeout, "no connection became free in time"),
    (httpx.TimeoutException, "timed out"),
    (httpx.ConnectError, "the connection could not be opened"),
    (httpx.ReadError, "the connection broke"),
    (httpx.WriteError, "the connection broke"),
    (httpx.DecodingError, "the answer could not be unpacked"),
    (httpx.UnsupportedProtocol, "the address is neither http nor https"),
    (httpx.LocalProtocolError, "the request cannot be written as HTTP"),
)


def cause(error: BaseException) -> str:
    """Why an exchange failed, from the error and those that led to it."""
    chain = list(_chain(error))
    for each in reversed(chain):
        if words := _of_system(each):
            return words
    for each in chain:
        if words := _of_protocol(each):
            return words
    kinds = (words for each in chain for kind, words in KINDS if isinstance(each, kind))
    return next(kinds, "the connection failed")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _of_system(error: BaseException) -> str | None:
    """What the operating system or OpenSSL says."""
    if isinstance(error, socket.gaierror | UnicodeError):
        return "the host name cannot be resolved"
    if isinstance(error, ssl.SSLCertVerificationError):
        return CERTIFICATES.get(error.verify_code, UNTRUSTED)
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return "the TLS handshake was cut off"
    if isinstance(error, ssl.SSLError):
        return _of_tls(error)
    if isinstance(error, TimeoutError):
        # Of reads and writes, too: whoever asks knows better which it was.
        return None
    return SYSTEM.get(error.errno or 0) if isinstance(error, OSError) else None


def _of_tls(error: ssl.SSLError) -> str | None:
    reason = error.reason or ""
    if reason in NOT_TLS:
        return "this port does not use TLS (plain HTTP?)"
    if not re.fullmatch("[A-Z0-9_]{1,60}", reason):
        return "the TLS handshake failed"
    return f"the TLS handshake failed ({reason.lower().replace('_', ' ')})"


def _of_protocol(error: BaseException) -> str | None:
    """What HTTP shows; of an answer only a status is repeated."""
    if isinstance(error, httpx.ProxyError):
        status = re.match(r"[1-5]\d\d(?!\d)", str(error))
        return f"the proxy refused the tunnel ({status[0]})" if status else "the proxy refused the tunnel"
    if isinstance(error, httpx.RemoteProtocolError):
        said = str(error)
        if "without sending a response" in said:
            return "the server closed the connection without an answer"
        if "closed connection" in said or "incomplete" in said:
            return "the answer was cut off"
        return "the answer is not HTTP"
    return None
