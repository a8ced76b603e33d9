import pytest

from runtime.image.registry.errors import RegistryError
from runtime.image.registry.proxy import proxy_for
from runtime.image.registry.url import parse_url

HTTP = "http://registry.test/v2/"
HTTPS = "https://registry.test:5000/v2/"


@pytest.mark.parametrize(
    ("url", "environment", "expected"),
    [
        (HTTP, {}, None),
        (HTTP, {"HTTP_PROXY": "http://p.test:3128"}, "p.test:3128"),
        (HTTP, {"HTTP_PROXY": "p.test:3128", "http_proxy": "http://small.test"}, "small.test"),
        (HTTP, {"HTTPS_PROXY": "http://p.test"}, None),
        (HTTPS, {"HTTPS_PROXY": "http://p.test"}, "p.test"),
        (HTTPS, {"ALL_PROXY": "http://p.test"}, "p.test"),
        ("https://localhost/", {"HTTPS_PROXY": "http://p.test"}, None),
        ("http://127.0.0.9:5000/", {"HTTP_PROXY": "http://p.test"}, None),
    ],
)
def test_which_proxy(url: str, environment: dict[str, str], expected: str | None) -> None:
    found = proxy_for(parse_url(url), environment)
    assert (found and found.url.authority) == expected


@pytest.mark.parametrize(
    ("rules", "is_exempt"),
    [
        ("*", True),
        ("registry.test", True),
        ("REGISTRY.test:5000", True),
        ("registry.test:443", False),
        (".test", True),
        ("*.test", True),
        ("test", True),
        ("try.test", False),
        ("other.test, registry.test ,", True),
        ("10.0.0.0/8", False),
        ("", False),
    ],
)
def test_who_is_exempt(rules: str, *, is_exempt: bool) -> None:
    environment = {"https_proxy": "http://p.test", "no_proxy": rules}
    assert (proxy_for(parse_url(HTTPS), environment) is None) == is_exempt


@pytest.mark.parametrize(
    ("url", "rules", "is_exempt"),
    [
        ("https://10.1.2.3/", "10.0.0.0/8", True),
        ("https://10.1.2.3/", "10.1.2.3:443", True),
        ("https://11.1.2.3/", "10.0.0.0/8,fd00::/8", False),
        ("https://[fd00::1]:5000/", "fd00::/8", True),
        ("https://[fd00::1]:5000/", "[fd00::1]:5000", True),
        ("https://[fd00::1]:5000/", "[fd00::1]:443", False),
    ],
)
def test_which_addresses_are_exempt(url: str, rules: str, *, is_exempt: bool) -> None:
    environment = {"HTTPS_PROXY": "http://p.test", "NO_PROXY": rules}
    assert (proxy_for(parse_url(url), environment) is None) == is_exempt


def test_a_password_is_sent_and_never_shown() -> None:
    found = proxy_for(parse_url(HTTP), {"http_proxy": "http://al%40ice:s3%2Fcret@p.test:81"})
    assert found is not None
    assert str(found.url) == "http://p.test:81/"
    assert found.headers == {"Proxy-Authorization": "Basic YWxAaWNlOnMzL2NyZXQ="}
    with pytest.raises(RegistryError, match="HTTP_PROXY is no address of a proxy") as caught:
        proxy_for(parse_url(HTTP), {"http_proxy": "http://a:s3cret@b:c:d"})
    assert "s3cret" not in str(caught.value)


def test_a_proxy_that_wants_tls_itself_is_refused() -> None:
    with pytest.raises(RegistryError, match="over TLS"):
        proxy_for(parse_url(HTTPS), {"HTTPS_PROXY": "https://p.test"})
