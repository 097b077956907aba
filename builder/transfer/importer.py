"""``import`` (a tar of a root file system becomes an image) and ``export`` (a container's file system becomes a
tar).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from builder.store import changesets
from builder.store.diskfaults import disk_errors
from builder.transfer import layers

if TYPE_CHECKING:
    from builder.oci.configs import ImageConfig
    from builder.oci.digests import Digest
    from builder.oci.platforms import Platform
    from builder.store import Store
    from builder.store.apply import Limits
    from builder.store.changesets import Sink
    from builder.store.tarstream import Readable


def import_image(
    store: Store,
    stream: Readable,
    *,
    created: datetime,
    platform: Platform,
    reference: str | None = None,
    message: str = "",
    edit: Callable[[ImageConfig], ImageConfig] | None = None,
    limits: Limits | None = None,
) -> Digest:
    """Make an image of one layer from a tar (plain or packed); returns the image id.

    *edit* applies ``-c`` changes to the new config. *message* is the history's comment ("Imported from -" when empty).
    *created* is aware of its time zone.

    Raises: ArchiveInvalid, LimitExceeded, InvalidReference, StoreError.
    """
    from builder.oci import mutate
    from builder.oci.configs import History
    from builder.oci.references import Reference

    name = None if reference is None else Reference.parse(reference).tagged()
    with store.scratch() as directory, open(directory / "import.tar", "w+b") as spool:
        # Spooled only to be read a second time, should its directory not give it back.
        while data := stream.read(1 << 20):
            with disk_errors("spool the archive"):
                spool.write(data)
        with disk_errors("spool the archive"):
            spool.flush()

        def opened() -> Readable:
            spool.seek(0)
            return spool

        layer = layers.read_in(store, opened, limits=limits)
    assert layer.diff_id is not None
    history = History(created=_text(created), comment=message or "Imported from -")
    config = mutate.append(mutate.empty(platform), layer.diff_id, history)
    image_id = store.images.put(edit(config) if edit else config, [layer.id], origin="import")
    if name is not None:
        store.images.tag(name, image_id)
    return image_id


def export(root: int, sink: Sink) -> int:
    """Write the file system below the directory descriptor *root* as a tar; returns its bytes.

    *root* is what ``runtime.rootfs.open_rootfs`` gives: whiteouts are already applied there.

    Raises: OSError, StoreError (a file changed while it was read).
    """
    return changesets.write(root, sink, overlay=False, contents=False).size


def _text(when: datetime) -> str:
    """RFC 3339 with a Z, as Go writes times."""
    from datetime import UTC

    return when.astimezone(UTC).isoformat().replace("+00:00", "Z")
