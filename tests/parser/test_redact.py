"""Credentials in URLs are taken out, and nothing else is touched."""

import pytest

from parser.redact import has_credentials, hidden, hidden_in


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ADD https://user:pass@host/x /x", "ADD https://xxxxx:xxxxx@host/x /x"),
        ("git+ssh://u:p:q@h and ftp://:p@h", "git+ssh://xxxxx:xxxxx@h and ftp://xxxxx:xxxxx@h"),
        ("RUN curl \"http://a:b@c\" 'http://d:e@f'", "RUN curl \"http://xxxxx:xxxxx@c\" 'http://xxxxx:xxxxx@f'"),
    ],
)
def test_credentials(text: str, expected: str) -> None:
    assert hidden(text) == expected
    assert hidden(expected) == expected
    data = text.encode() + b"\xff\n"
    assert has_credentials(data) and hidden_in(data) == expected.encode() + b"\xff\n"


@pytest.mark.parametrize(
    "text", ["https://host:80/a@b", "ssh://git@host/x", "user:pass@host", "docker://a/b:c@sha256:0", "x://y z:p@h"]
)
def test_what_has_none(text: str) -> None:
    assert hidden(text) == text and not has_credentials(text.encode())
