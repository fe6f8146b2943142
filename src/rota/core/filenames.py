"""Names of files within a scratch directory: which are taken, and which of them a pattern means.

A name is relative, its parts are joined by ``/``, and none of them leads up or away, so that joined to any folder it
stays below it. Whoever writes a file by a name that somebody else gave asks here first: the coordinator, the slot, and
the client that brings results back, since any of the others may lie.

Patterns are those of a shell: ``*`` and ``?`` stand for characters within one part and not for a leading dot, ``**`` as
a whole part for any number of folders. They are matched part by part without backtracking: no pattern is slow.

Nothing is imported here: every slot has this module in its memory.
"""

__all__ = ["NAME_BYTES_MAX", "PART_BYTES_MAX", "FilePattern", "find_flaw_in_name", "find_flaw_in_pattern"]

NAME_BYTES_MAX = 1024
"""Of a whole name, in UTF-8: with any folder before it, it stays below what the kernel takes (4,096)."""

PART_BYTES_MAX = 255
"""Of one part: what file systems take."""

ANY_FOLDERS = "**"


def find_flaw_in_name(name: str) -> str | None:
    r"""Say why a name can't be taken; ``None`` if it can.

    >>> find_flaw_in_name("results/2030 Ω.csv")
    >>> find_flaw_in_name("a/../b"), find_flaw_in_name("/etc/passwd")
    ("has a part '..', which leads out of the folder", 'is absolute: it must be relative to the scratch directory')
    """
    if not name:
        return "is empty"
    if name.startswith("/"):
        return "is absolute: it must be relative to the scratch directory"
    if "\\" in name:
        return "has a backslash: parts of a name are joined by /"
    if not name.isprintable() and any(map(_is_control, name)):  # most are: then none need be looked at by itself
        return "has a control character"
    try:
        if len(name.encode()) > NAME_BYTES_MAX:
            return f"has {len(name.encode()):,} bytes: at most {NAME_BYTES_MAX:,}"
    except UnicodeEncodeError:
        return "is not Unicode"
    return next((flaw for part in name.split("/") if (flaw := _flaw_of_part(part)) is not None), None)


def find_flaw_in_pattern(pattern: str) -> str | None:
    """Say why a pattern can't be taken; ``None`` if it can.

    >>> find_flaw_in_pattern("out/**/*.csv")
    >>> find_flaw_in_pattern("out**/a")
    "has '**' within a part: it must be a whole part, as in a/**/b"
    """
    flaw = find_flaw_in_name(pattern)
    if flaw is not None:
        return flaw
    if any(ANY_FOLDERS in part and part != ANY_FOLDERS for part in pattern.split("/")):
        return "has '**' within a part: it must be a whole part, as in a/**/b"
    return None


class FilePattern:
    """One pattern, as something that is walked down from folder to folder.

    A walk is in some *places* of the pattern at once: the numbers of the parts that may come next. It begins with
    `start`; `step` tells where one part of a name leads. Where a place is `end`, the name is matched.

    >>> pattern = FilePattern("out/**/*.csv")
    >>> [pattern.matches(name) for name in ("out/a.csv", "out/x/y/a.csv", "a.csv", "out/.hidden/a.csv")]
    [True, True, False, False]
    """

    __slots__ = ("_parts", "end", "is_plain", "start", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._parts: list[str] = []
        for part in text.split("/"):
            if part != ANY_FOLDERS or self._parts[-1:] != [ANY_FOLDERS]:  # a row of them means what one means
                self._parts.append(part)
        self.end = len(self._parts)
        self.start = self._with_skipped({0})
        self.is_plain = not any(sign in text for sign in "*?")

    @property
    def may_name_folder(self) -> bool:
        """Whether a folder that it matches stands for all that is in it: not if its last part is a wildcard."""
        return not any(sign in self._parts[-1] for sign in "*?")

    def step(self, places: frozenset[int], part: str) -> frozenset[int]:
        """Where a part of a name leads from there; nowhere if nothing below it can match."""
        reached = set()
        for place in places:
            if place == self.end:
                continue
            expected = self._parts[place]
            if expected == ANY_FOLDERS:
                if not part.startswith("."):
                    reached.add(place)
                    if place + 1 == self.end:
                        reached.add(self.end)
            elif _part_matches(expected, part):
                reached.add(place + 1)
        return self._with_skipped(reached)

    def matches(self, name: str) -> bool:
        """Whether it means the file of this name, itself and not as part of a folder."""
        places = self.start
        for part in name.split("/"):
            places = self.step(places, part)
        return self.end in places

    def means(self, name: str) -> bool:
        """Whether it means the file of this name, itself or as part of a folder that it names.

        >>> FilePattern("out").means("out/a/b"), FilePattern("o*").means("out/a/b")
        (True, False)
        """
        places = self.start
        for part in name.split("/"):
            if self.may_name_folder and self.end in places:
                return True
            places = self.step(places, part)
        return self.end in places

    def _with_skipped(self, places: set[int]) -> frozenset[int]:
        """Go on over ``**`` that stand for no folder; the last one stands for a file at least."""
        last = self.end - 1
        return frozenset(places).union(
            place + 1 for place in places if place < last and self._parts[place] == ANY_FOLDERS
        )


def _flaw_of_part(part: str) -> str | None:
    if part == "..":
        return "has a part '..', which leads out of the folder"
    if part in ("", "."):
        return "has an empty part: write a/b, without // or ./ or a / at the end"
    if len(part.encode()) > PART_BYTES_MAX:
        return f"has a part of {len(part.encode()):,} bytes: at most {PART_BYTES_MAX}"
    return None


def _is_control(character: str) -> bool:
    """C0, delete, C1, and what begins a new line or paragraph."""
    return character < " " or "\x7f" <= character <= "\x9f" or character in "\u2028\u2029"


def _part_matches(pattern: str, part: str) -> bool:
    """Match one part in O(pattern × part): after a star, the shortest that fits is tried first."""
    if part.startswith(".") and not pattern.startswith("."):
        return False
    at = place = 0
    star, resume = -1, 0
    while at < len(part):
        if place < len(pattern) and pattern[place] == "*":
            star, resume = place, at
            place += 1
        elif place < len(pattern) and pattern[place] in ("?", part[at]):
            place += 1
            at += 1
        elif star >= 0:
            resume += 1
            place, at = star + 1, resume
        else:
            return False
    return all(sign == "*" for sign in pattern[place:])
