"""Variables and labels: `-e K=V`, `-e K`, env files, `--label`, label files."""

from __future__ import annotations

from builder.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def parse_env(text: str, lookup: Callable[[str], str | None]) -> str:
    """`K=V` as it is; `K` with the value that `lookup` has for it; bare `K` when it has none, which makes `merged`
    take away the image's K. Raises InvalidInput."""
    if not text or text.startswith("="):
        raise InvalidInput(f"invalid environment variable: {text}")
    if "=" in text:
        return text
    value = lookup(text)
    return text if value is None else f"{text}={value}"


def parse_env_file(content: bytes, name: str, lookup: Callable[[str], str | None]) -> tuple[str, ...]:
    """The variables of an env file: one `K=V` or `K` a line, `#` comments, white space before a name dropped, values
    taken as they are (no quotes, no expansion). Raises InvalidInput with file and line."""
    found = []
    for number, line in enumerate(_lines(content, name), 1):
        line = line.lstrip()
        if not line or line.startswith("#"):
            continue
        key, equals, value = line.partition("=")
        if not key:
            raise InvalidInput(f"no variable name on line '{line}'", hint=f"in {name}, line {number}")
        if any(letter.isspace() for letter in key):
            raise InvalidInput(f"variable '{key}' contains whitespaces", hint=f"in {name}, line {number}")
        if not equals:
            inherited = lookup(key)
            if inherited is not None:
                found.append(f"{key}={inherited}")
        else:
            found.append(f"{key}={value}")
    return tuple(found)


def parse_label_file(content: bytes, name: str) -> tuple[tuple[str, str], ...]:
    """The labels of a label file: one `key=value` or `key` a line. Raises InvalidInput."""
    labels = []
    for line in _lines(content, name):
        line = line.lstrip()
        if line and not line.startswith("#"):
            labels.append(parse_label(line))
    return tuple(labels)


def parse_label(text: str) -> tuple[str, str]:
    """`key=value` or `key` (empty value). Raises InvalidInput."""
    key, _, value = text.partition("=")
    if not key:
        raise InvalidInput(f"invalid label '{text}': empty name")
    return key, value


def merged(variables: Iterable[str]) -> tuple[str, ...]:
    """Later variables of the same name win, at the place of the first, as docker merges image and user."""
    by_name: dict[str, str] = {}
    for variable in variables:
        name, equals, _ = variable.partition("=")
        if equals:
            by_name[name] = variable
        else:
            by_name.pop(name, None)
    return tuple(by_name.values())


def _lines(content: bytes, name: str) -> list[str]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        number = content[: err.start].count(b"\n") + 1
        raise InvalidInput(f"env file {name} contains invalid utf8 bytes at line {number}") from None
    return [line.rstrip("\r") for line in text.split("\n")]
