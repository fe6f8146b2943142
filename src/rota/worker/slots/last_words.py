"""What a snippet that failed says last, in one line: the exception or the panic, and the line of the code.

Read from the end of what it wrote to stderr. In what is not plainly a traceback nothing is found: then the task has no
message, and its output says what it says.
"""

__all__ = ["last_words"]

BYTES_MAX = 32768
"""Of the end of the output, to be looked through."""

CHARS_MAX = 500

DIGITS_MAX = 9
"""Of a line's number."""

TRACEBACK = "Traceback (most recent call last):"
FRAME = '  File "'
PANICS = ("panic: ", "fatal error: ")

PYTHON_FAILED = 1
GO_FAILED = 2
"""The codes with which each ends for what nobody has caught."""


def last_words(language: str, source: str, exit_code: int, *, stderr: bytes) -> str | None:
    """The reason of a failure in a line, if there is one to be found.

    Args:
        language: ``python`` or ``go``.
        source: The name of the file with the code, as it stands in tracebacks behind a slash.
        exit_code: Of the snippet.
        stderr: The end of what it wrote.
    """
    lines = stderr[-BYTES_MAX:].decode("utf-8", "replace").splitlines()
    if language == "python" and exit_code == PYTHON_FAILED:
        return _of_traceback(lines, f'/{source}", line ')
    if language == "go" and exit_code == GO_FAILED:
        return _of_panic(lines, f"/{source}:")
    return None


def _of_traceback(lines: list[str], place: str) -> str | None:
    """The exception that ended a program of Python's: what comes behind the last frame of the last traceback."""
    frames: list[int] = []
    for index, line in enumerate(lines):
        if line == TRACEBACK:
            frames.clear()
        elif line.startswith(FRAME):
            frames.append(index)
    if not frames:
        return None
    said = next((line for line in lines[frames[-1] + 1 :] if line and not line.startswith(" ")), None)
    numbers = [number for index in frames if (number := _number_behind(place, lines[index]))]
    return _sentence(said, numbers[-1:])


def _of_panic(lines: list[str], place: str) -> str | None:
    """The panic that ended a program of Go's; the first frame of ours behind it is where that happened."""
    panics = [index for index, line in enumerate(lines) if line.startswith(PANICS)]
    if not panics:
        return None
    # One that was recovered and raised again stands before the last, in one block with it.
    numbers = [number for line in lines[panics[-1] :] if (number := _number_behind(place, line))]
    return _sentence(lines[panics[-1]], numbers[:1])


def _number_behind(mark: str, line: str) -> str:
    rest = line.partition(mark)[2]
    end = 0
    while end < min(len(rest), DIGITS_MAX) and "0" <= rest[end] <= "9":
        end += 1
    return rest[:end]


def _sentence(said: str | None, numbers: list[str]) -> str | None:
    if said is None:
        return None
    shown = said if len(said) <= CHARS_MAX else said[:CHARS_MAX] + "…"
    return f"{shown} (line {numbers[0]})" if numbers else shown
