import pytest

from connector.config import load
from connector.config.addresses import host_of
from connector.errors import ConfigurationError

US = "https://api.segment.io"
EU = "https://events.eu1.segmentapis.com"


@pytest.mark.parametrize(
    ("region", "host", "expected"),
    [
        ("us", None, US),
        ("eu", None, EU),
        ("us", EU, EU),
        ("us", "events.eu1.segmentapis.com", EU),
        ("us", "api.segment.io/v1", US),
        ("us", "https://api.segment.io/v1/", US),
        ("us", "HTTPS://api.segment.io/v1/batch", US),
        ("us", "https://api.segment.io//", US),
        ("us", "https://proxy.example.com:8443/segment/v1/", "https://proxy.example.com:8443/segment"),
        ("us", "http://127.0.0.1:8099", "http://127.0.0.1:8099"),
        ("us", "http://localhost:8099/v1", "http://localhost:8099"),
        ("us", "http://[::1]:8099", "http://[::1]:8099"),
        ("us", "http://box.localhost:9000", "http://box.localhost:9000"),
        ("us", "localhost:8099", "https://localhost:8099"),
    ],
)
def test_addresses(region: str, host: str | None, expected: str) -> None:
    found = load({"SEGMENT_HOST": host or ""}, secrets_required=False).connection()
    assert host_of(region, found.segment_host) == expected


@pytest.mark.parametrize(
    "host",
    [
        "http://api.segment.io",
        "http://127.0.0.1.example.com",
        "http://localhost.example.com",
        "http://0.0.0.0",
        "ftp://api.segment.io",
        "https://",
        "https://key:hunter2@api.segment.io",
        "https://api.segment.io?key=hunter2",
        "https://api.segment.io#hunter2",
        "https://api.segment.io:hunter2",
        "https://api.seg ment.io",
        "https://[hunter2",
        "http://localhost\\@hunter2.example.com",
    ],
)
def test_addresses_that_will_not_do(host: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load({"SEGMENT_HOST": host}, secrets_required=False)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__context__ is None
