"""What was found among the images of a data set and is not read, counted by the reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from robustvit.errors import few


@dataclass(frozen=True)
class LeftOut:
    """Counts of what is left out of a data set. Its text is one line, "" where nothing is.

    endings: files by their ending, see `ending_of`. linked_folders: links to folders, which are not followed, so that no image is listed
    twice. links: members of a tar that only point to others. hidden: images and folders whose names begin with a dot.
    """

    endings: Counter[str] = field(default_factory=Counter)
    linked_folders: int = 0
    links: int = 0
    hidden: int = 0

    def __add__(self, other: LeftOut) -> LeftOut:
        return LeftOut(
            self.endings + other.endings, self.linked_folders + other.linked_folders, self.links + other.links, self.hidden + other.hidden
        )

    def __bool__(self) -> bool:
        return bool(str(self))

    def __str__(self) -> str:
        files = self.endings.total()
        named = few(sorted(self.endings, key=lambda ending: (-self.endings[ending], ending)))
        counts = {
            f"linked folder{_s(self.linked_folders)}": self.linked_folders,
            f"link{_s(self.links)}": self.links,
            f"{'files with other endings' if files != 1 else 'file with another ending'} ({named})": files,
            f"hidden image{_s(self.hidden)} or folder{_s(self.hidden)}": self.hidden,
        }
        return ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)

    def without(self, *endings: str) -> LeftOut:
        """This, without the files of some endings: those that are known to lie beside the images."""
        kept = Counter({ending: count for ending, count in self.endings.items() if ending not in endings})
        return LeftOut(kept, self.linked_folders, self.links, self.hidden)


def ending_of(name: str) -> str:
    """The ending of a file name in small letters with its dot, `.txt`; `no ending` where it has none."""
    _, dot, ending = name.rpartition("/")[2].rpartition(".")
    return f".{ending.lower()}" if dot else "no ending"


def is_hidden_image(name: str, endings: tuple[str, ...]) -> bool:
    """Whether a hidden file is named like an image; what macOS writes beside every file (`._1.png`) is none."""
    return name.startswith(".") and not name.startswith("._") and name.lower().endswith(endings)


def _s(count: int) -> str:
    return "" if count == 1 else "s"
