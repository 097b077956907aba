"""References: docker's rules, and one canonical spelling for each."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import InvalidReference
from builder.oci.references import Reference, is_id, valid_tag

DIGEST = "sha256:" + "ab" * 32
COMPONENT = st.from_regex(r"\A[a-z0-9]{1,6}(?:(?:\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}\Z")
REGISTRY = st.sampled_from(["docker.io", "localhost", "localhost:5000", "quay.io", "Host", "[::1]:80", "10.0.0.1:443"])
REFERENCES = st.builds(
    lambda registry, parts, tag, digest: Reference.parse(
        f"{registry}/{'/'.join(parts)}" + (f":{tag}" if tag else "") + (f"@{DIGEST}" if digest else "")
    ),
    REGISTRY,
    st.lists(COMPONENT, min_size=1, max_size=3),
    st.none() | st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}\Z"),
    st.booleans(),
)


@settings(max_examples=100, deadline=None)
@given(REFERENCES)
def test_both_spellings_mean_the_same_reference(reference: Reference) -> None:
    assert Reference.parse(str(reference)) == reference
    # docker.io/a.b/c is shown as a.b/c, which means another registry: docker does the same.
    if reference.registry != "docker.io" or not {".", ":"} & set(reference.repository.split("/")[0]):
        assert Reference.parse(reference.familiar()) == reference
    assert reference.tagged().tagged() == reference.tagged()
    assert reference.tagged().tag or reference.tagged().digest


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=40) | st.text("aA0.:/@_-[]", max_size=40))
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except InvalidReference as err:
        assert err.message
        return
    assert Reference.parse(str(reference)) == reference
    assert len(reference.name) <= 255


@pytest.mark.parametrize(
    ("text", "canonical", "familiar"),
    [
        ("busybox", "docker.io/library/busybox", "busybox"),
        ("busybox:1", "docker.io/library/busybox:1", "busybox:1"),
        ("docker.io/busybox", "docker.io/library/busybox", "busybox"),
        ("index.docker.io/library/busybox", "docker.io/library/busybox", "busybox"),
        ("me/app:v1", "docker.io/me/app:v1", "me/app:v1"),
        ("localhost/app", "localhost/app", "localhost/app"),
        ("localhost:5000/a/b:t", "localhost:5000/a/b:t", "localhost:5000/a/b:t"),
        ("reg.io/app", "reg.io/app", "reg.io/app"),
        ("Up/app", "Up/app", "Up/app"),
        (f"busybox@{DIGEST}", f"docker.io/library/busybox@{DIGEST}", f"busybox@{DIGEST}"),
        (f"busybox:1@{DIGEST}", f"docker.io/library/busybox:1@{DIGEST}", f"busybox:1@{DIGEST}"),
        ("docker.io/library/a/b", "docker.io/library/a/b", "library/a/b"),
    ],
)
def test_defaults_and_familiar_names(text: str, canonical: str, familiar: str) -> None:
    reference = Reference.parse(text)
    assert str(reference) == canonical
    assert reference.familiar() == familiar


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "invalid reference format"),
        ("Busybox", "invalid reference format: repository name (library/Busybox) must be lowercase"),
        ("a//b", "invalid reference format"),
        ("-a", "invalid reference format"),
        ("a___b", "invalid reference format"),
        ("a:-tag", "invalid reference format"),
        ("a:" + "t" * 129, "invalid reference format"),
        ("a@sha256:12", "invalid reference format"),
        ("a" * 300, "repository name must not be more than 255 characters"),
        (
            "0" * 64,
            f"invalid repository name ({'0' * 64}), cannot specify 64-byte hexadecimal strings",
        ),
        ("../x", "invalid reference format"),
        ("/x", "invalid reference format"),
        ("x/", "invalid reference format"),
        ("a:", "invalid reference format"),
        ("a/:b", "invalid reference format"),
        ("a@", "invalid reference format"),
        ("a b", "invalid reference format"),
    ],
)
def test_wrong_references_get_dockers_message(text: str, message: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        Reference.parse(text)
    assert caught.value.message == message


def test_ids_are_told_from_names() -> None:
    assert is_id("ab12") and is_id(DIGEST) and is_id("sha256:ab")
    assert not is_id("ab12g") and not is_id("") and not is_id("a" * 65)
    assert valid_tag("v1.2-x_y") and not valid_tag(".x") and not valid_tag("x" * 129) and not valid_tag("")
