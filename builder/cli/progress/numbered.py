"""BuildKit's numbered lines: each step's lines under its own heading, an empty line between steps."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import IO


def exporting(image: str, *, index: bool) -> str:
    """The line about what was made: an image, or the index of several."""
    return f"{'exporting manifest list' if index else 'writing image'} {image}"


class Numbered:
    """`#7 [2/5] RUN make`, `#7 0.142 text`, `#7 DONE 1.2s`, `#8 CACHED`."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._current = 0

    def lines(self, number: int, name: str, *texts: str) -> None:
        """Lines of step *number*; its heading comes before them when another step had the last word."""
        if number != self._current:
            if self._current:
                self._stream.write(f"#{self._current} ...\n\n")
            self._current = number
            self._stream.write(f"#{number} {name}\n")
        for text in texts:
            self._stream.write(f"#{number} {text}\n")

    def over(self) -> None:
        """The step that had the last word has ended."""
        self._stream.write("\n")
        self._current = 0

    def cached(self, number: int, name: str) -> None:
        """A step was found in the cache."""
        self.lines(number, name, "CACHED")
        self.over()

    def exported(self, number: int, image: str, tags: Sequence[str], *, index: bool) -> None:
        """The image, or the index of several, is in the store."""
        named = [f"naming to {tag} done" for tag in tags]
        self.lines(number, "exporting to image", f"{exporting(image, index=index)} done", *named, "DONE 0.0s")
        self.over()
