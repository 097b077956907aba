"""How to get a foreign layer's tar back from its directory, byte for byte.

A recipe holds everything of a tar that is not content of a file: headers, padding, the end, in order, with references to
the files whose content stood between. It is small and packs well. Layers that we wrote ourselves need none: their canonical
tar is the one (``Applied.exact``).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from builder.store.apply import Readable
    from builder.store.changesets import Sink


def replay(recipe: Readable, upper: Path, sink: Sink) -> int:
    """Write the tar that *recipe* and the layer directory *upper* give to *sink*; returns its size in bytes.

    The caller compares the digest: what comes out is only as right as the directory is untouched.

    Raises: RecipeError (broken recipe, a file that is missing or has another size), OSError.
    """
    raise NotImplementedError
