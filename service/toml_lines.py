"""Where in a TOML file a key stands, for messages: `tomllib` forgets it. Pure."""

from __future__ import annotations

import re

_HEADER = re.compile(r"\s*(\[\[?)([^\]]+)\]")
_KEY = re.compile(r"""\s*["']?([A-Za-z0-9_-]+)["']?\s*[.=]""")


def line_of(text: str, array: str | None, number: int, key: str) -> int | None:
    """The line, from 1, of `key` in the table `number`, from 0, of the array of tables `array`; of the table's own
    header where it has no such key; None where there is no such table. Without an array, of a key of the whole file.

    A line within a text of several lines may be taken for a key: the place is a help for people, no more.
    """
    found: int | None = None
    current, count = None, -1
    for line, content in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(content):
            name = header[2].strip()
            is_item = header[1] == "[[" and name == array
            count += is_item
            current = array if is_item or name.startswith(f"{array}.") else name
            if count == number and is_item:
                found = line
            inner = [part.strip() for part in name.split(".")]
            if (count == number and inner == [array, key]) or (array is None and inner[0] == key):
                return line
        elif (
            (match := _KEY.match(content))
            and match[1] == key
            and current == array
            and (array is None or count == number)
        ):
            return line
    return found
