"""The disk: layers, images, build cache, containers and history in one directory that survives anything.

`Store.open(root)` is the door. Read in this order:

    door        `Store`
    layout      where things are, and why nobody else may look
    schema      the tables; database   transactions, errors in our words
    locks       flocks; leases         what living processes use; crash   instants at which tests kill
    snapshots   layers from prepare to commit; trees, flats   directories copied, merged, removed
    content     blobs by digest; partial   blobs that are still coming; packed   compressed forms of layers
    images      images and references; removal   docker's rules for rmi; attestations   what is said of images
    indexes     images for several platforms under one name
    buildcache  records of steps; cachemounts   directories of RUN --mount=type=cache
    files   digests of outside files, parsed Dockerfiles
    outcomes    what a whole build came to, for the next that asks the same
    records     history of builds; containers, names   what they are, which one is meant
    sweep       what the dead left goes; collect   what nothing needs goes; cacheitems   the cache beyond its budget
    fsck        is everything as promised?; validate   is this image whole?
    changesets, apply, recipes, tarstream   layers as tars
    layerwalk, layerread   what is in a layer; beside   processes that do a part of the work

What it promises: a blob or layer appears whole or not at all. A directory without its row is garbage, a row without its
directory is a miss. References and images are on the disk when the call returns. Locks die with their process.
Collection never takes what a living process or a reference reaches. Any process may be killed at any instant. A full
disk is a clear error and nothing half done. The same step at once in two builds runs once. A newer store is refused, an
older migrated.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.store.door import Store

__all__ = ["Store"]


def __getattr__(name: str) -> object:
    """`Store`, loaded when it is asked for: an unchanged build needs some modules of this package, and not that."""
    if name == "Store":
        from builder.store.door import Store

        return Store
    raise AttributeError(f"module {__name__} has no attribute {name}")
