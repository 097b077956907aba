"""Package URLs of images: `pkg:docker/alpine@3.17?platform=linux%2Famd64`, as BuildKit writes them.

Rule: the purl specification, type docker; the name is the familiar one, so docker.io is not in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from builder.oci.platforms import Platform
    from builder.oci.references import Reference


def of_image(reference: Reference, platform: Platform | None = None) -> str:
    """The purl of what a reference names; a digest in it becomes a qualifier, and then it needs no tag."""
    reference = reference.tagged()
    path = "/".join(quote(part, safe=":") for part in reference.familiar_name().split("/"))
    version = f"@{quote(reference.tag, safe='')}" if reference.tag else ""
    qualifiers = [f"digest={reference.digest}"] if reference.digest else []
    if platform is not None:
        qualifiers.append(f"platform={quote(str(platform), safe='')}")
    return f"pkg:docker/{path}{version}" + (f"?{'&'.join(qualifiers)}" if qualifiers else "")
