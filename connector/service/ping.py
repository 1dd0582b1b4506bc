"""A dead man's switch: elsewhere somebody notices when the pings stay away, or when one says `fail`."""

import structlog

log = structlog.get_logger()

TIMEOUT = 5.0


def ping(url: str, *, failed: bool) -> None:
    """GET the URL, or the one for failures; nothing of the run is told but that.

    As healthchecks.io and its likes have it. That it fails is a warning, and never changes how a run ended.
    """
    import httpx

    trouble = None
    try:
        answer = httpx.get(f"{url}/fail" if failed else url, timeout=TIMEOUT, follow_redirects=False)
        if not answer.is_success:
            trouble = f"answered {answer.status_code}"
    except httpx.HTTPError as error:
        trouble = type(error).__name__
    if trouble:
        log.warning("ping_failed", error=trouble)
