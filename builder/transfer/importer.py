"""``import`` (a tar of a root file system becomes an image) and ``export`` (a container's root file system becomes a tar)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from builder.oci.configs import ImageConfig
    from builder.oci.digests import Digest
    from builder.oci.platforms import Platform
    from builder.store import Store
    from builder.store.apply import Limits, Readable
    from builder.store.changesets import Sink


def import_image(
    store: Store,
    stream: Readable,
    *,
    created: datetime,
    reference: str | None = None,
    message: str = "",
    platform: Platform | None = None,
    edit: Callable[[ImageConfig], ImageConfig] | None = None,
    limits: Limits | None = None,
) -> Digest:
    """Make an image of one layer from a tar (plain or packed); returns the image id.

    *edit* applies ``-c`` changes to the new config. *message* is the history's comment ("Imported from -" when empty).

    Raises: ArchiveError, OSError.
    """
    raise NotImplementedError


def export(root: int, sink: Sink) -> int:
    """Write the file system below the directory descriptor *root* as a tar; returns its bytes.

    *root* is what ``runtime.rootfs.open_rootfs`` gives: whiteouts are already applied there.

    Raises: OSError.
    """
    raise NotImplementedError
