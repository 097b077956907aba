"""Compose files: their build sections as targets, interpolation, .env."""

import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.engine.bake import compose
from builder.engine.bake.interpolate import dotenv, interpolate
from builder.engine.bake.target import document
from builder.errors import BakeError


def printed(*texts: str, env: Mapping[str, str] | None = None) -> dict[str, dict[str, dict[str, object]]]:
    found = compose.define([compose.load(text, name="compose.yml") for text in texts], env or {})
    made: dict[str, dict[str, dict[str, object]]] = json.loads(document(found.groups, found.targets))
    return made


def test_a_build_section_is_a_target() -> None:
    made = printed(
        """
        services:
          web.app:
            image: me/web:${TAG:-latest}
            environment: {FROM_SERVICE: yes}
            build:
              context: ./web
              dockerfile: Dockerfile.web
              target: prod
              args: {VERSION: 1.10, DEBUG: true, FROM_ENV: , FROM_SERVICE: , UNKNOWN: }
              labels: ["a=b", "c=d=e"]
              cache_from: ["me/web:cache", "type=local,src=cache"]
              platforms: [linux/amd64]
              shm_size: 64m
              network: host
              no_cache: true
              pull: true
              extra_hosts: ["db:10.0.0.1", "v6=::1"]
              ulimits: {nproc: 65535, nofile: {soft: 20000, hard: 40000}}
              ssh: [default, key=/k]
              secrets: [token, {source: file}]
              additional_contexts: {base: "service:base.image", src: ../src}
              x-bake:
                tags: "one two"
                cache-to: ["type=inline"]
                contexts: {more: docker-image://busybox}
                no-cache-filter: [a]
          base.image:
            build:
              dockerfile_inline: |
                FROM busybox
                RUN echo $$HOME
          none: {image: postgres}
        secrets:
          token: {environment: TOKEN}
          file: {file: ./f}
        """,
        env={"FROM_ENV": "env"},
    )
    assert made["group"] == {"default": {"targets": ["web_app", "base_image"]}}
    assert made["target"]["base_image"] == {"dockerfile-inline": "FROM busybox\nRUN echo $HOME\n"}
    assert made["target"]["web_app"] == {
        "context": "./web",
        "contexts": {"base": "target:base_image", "more": "docker-image://busybox", "src": "../src"},
        "dockerfile": "Dockerfile.web",
        "args": {"DEBUG": "true", "FROM_ENV": "env", "FROM_SERVICE": "yes", "VERSION": "1.10"},
        "labels": {"a": "b", "c": "d=e"},
        "tags": ["me/web:latest", "one", "two"],
        "cache-from": [{"ref": "me/web:cache", "type": "registry"}, {"src": "cache", "type": "local"}],
        "cache-to": [{"type": "inline"}],
        "target": "prod",
        "secret": [{"id": "token", "env": "TOKEN"}, {"id": "file", "src": "./f"}],
        "ssh": [{"id": "default"}, {"id": "key", "paths": ["/k"]}],
        "platforms": ["linux/amd64"],
        "pull": True,
        "no-cache": True,
        "network": "host",
        "no-cache-filter": ["a"],
        "shm-size": "67108864",
        "ulimits": ["nproc=65535:65535", "nofile=20000:40000"],
        "extra-hosts": {"db": "10.0.0.1", "v6": "::1"},
    }


def test_files_are_merged_service_by_service() -> None:
    made = printed(
        "services: {a: {build: ./a, image: x}}",
        "services: {a: {build: {args: {X: 1}, tags: [t]}}, b: {build: .}}",
    )
    assert made["target"]["a"] == {"context": "./a", "args": {"X": "1"}, "tags": ["t"]}
    assert made["group"] == {"default": {"targets": ["a", "b"]}}


def test_a_service_may_extend_another() -> None:
    made = printed(
        """
        services:
          base: {image: base, build: {context: ./x, args: {A: 1, B: 1}}}
          app: {image: app, extends: {service: base}, build: {args: {B: 2}}}
          more: {extends: app}
        """
    )
    assert made["target"]["app"] == {"context": "./x", "args": {"A": "1", "B": "2"}, "tags": ["app"]}
    assert made["target"]["more"] == {"context": "./x", "args": {"A": "1", "B": "2"}}


def test_anchors_and_merge_keys_work() -> None:
    text = "x-build: &b {context: ./x, args: {A: 1}}\nservices:\n  a:\n    build:\n      <<: *b\n      target: t\n"
    assert printed(text)["target"]["a"] == {"context": "./x", "args": {"A": "1"}, "target": "t"}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("services: [1", "compose.yml:"),
        ("a: 1\n  b: 2\n", "compose.yml:2:4"),
        ("just text", "this is no compose file"),
        ("services: {a: {build: {args: 3}}}", "services.a.build.args must be a mapping or a list"),
        ("services: {a: {build: {secrets: [s]}}}", "undefined secret s"),
        ("services: {a: {build: {secrets: [s]}}}\nsecrets: {s: {external: true}}", "unsupported external secret s"),
        ("services: {a: {build: {tags: {x: y}}}}", "unsuitable value for tags"),
        ("services: {a: {build: {x-bake: {nope: 1}}}}", "unknown key nope"),
        ("services: {a: {build: $}}", "invalid interpolation format"),
        ("services: {a: {build: '${X:?is needed}'}}", "required variable X is missing a value: is needed"),
        ("services: {'a b': {build: .}}", "invalid service name"),
        ("include: [x.yml]\nservices: {}", "include is not supported"),
        ("services: {a: {extends: b}, b: {extends: a}}", "services.b extends itself: a -> b -> a"),
        ("services: {a: {extends: {file: x.yml, service: b}}}", "extends.file is not supported"),
        ("services: {a: {extends: b}}", "services.a extends b, which is not there"),
        (
            "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
            + "".join(
                f"{n}: &{n} [*{p},*{p},*{p},*{p},*{p},*{p},*{p},*{p},*{p},*{p}]\n"
                for p, n in zip("abcdefg", "bcdefgh", strict=True)
            )
            + "services: {s: {build: {args: *h}}}\n",
            "too large",
        ),
        ("services: {a: {build: &b {args: *b}}}", "too large"),
    ],
)
def test_what_is_wrong_is_refused(text: str, what: str) -> None:
    with pytest.raises(BakeError) as caught:
        printed(text)
    assert what in caught.value.message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$X ${X} $$X ${NONE}.", "x x $X ."),
        ("${NONE:-d}${EMPTY:-d}${EMPTY-d}${NONE-d}", "ddd"),
        ("${X:-d}${X:+set}${NONE:+set}${EMPTY+set}", "xsetset"),
        ("${NONE:-${ALSO:-in ${X}}}", "in x"),
        ("${X:?no}", "x"),
    ],
)
def test_interpolation(text: str, expected: str) -> None:
    assert interpolate(text, {"X": "x", "EMPTY": ""}, where="f") == expected


def test_an_env_file_is_read() -> None:
    text = """# c
A=1 # comment
export B = "q ${A} \\n \\"x\\""
C='raw ${A} # x'
D=${A}${OUTER}
E="two
lines"
F: yaml
OUTER
G=
"""
    assert dotenv(text, {"OUTER": "o"}, name=".env") == {
        "A": "1",
        "B": 'q 1 \n "x"',
        "C": "raw ${A} # x",
        "D": "1o",
        "E": "two\nlines",
        "F": "yaml",
        "OUTER": "o",
        "G": "",
    }


@pytest.mark.parametrize(("text", "what"), [("A=1\n=3", ".env:2"), ('A="x', "a quote is not closed")])
def test_a_wrong_env_file_is_refused(text: str, what: str) -> None:
    with pytest.raises(BakeError, match=what):
        dotenv(text, {}, name=".env")


@given(st.text(st.sampled_from("$a{}:-?+ X"), max_size=30))
def test_no_text_breaks_interpolation(text: str) -> None:
    try:
        interpolate(text, {"X": "x", "a": "${X}"}, where="f")
    except BakeError:
        pass


@given(st.text(st.sampled_from("A=\"'\n#\\ ${}x:"), max_size=30))
def test_no_text_breaks_an_env_file(text: str) -> None:
    try:
        dotenv(text, {}, name=".env")
    except BakeError:
        pass
