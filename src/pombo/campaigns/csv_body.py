"""Reads a CSV of recipients as it arrives: a header line, the column `recipient`, and every other column a variable.

A column `channelId` names the channel, for campaigns that send from several. Comma, semicolon or tab, whichever makes
a `recipient` column of the header; UTF-8, with or without a byte order mark.
"""

import csv
from typing import Any

from pombo.campaigns.errors import BodyInvalid
from pombo.campaigns.reading import MAX_RECIPIENT, cleaned, make_line, storable
from pombo.store.audience import RejectedLine, StagedLine

# A quoted field may span lines. One that spans more than this was never closed.
_MAX_RECORD = 128 * 1024
_DELIMITERS = (",", ";", "\t")


class CsvAudienceReader:
    """An `AudienceReader`. A line's number is that of the file, where the row begins; the header is on line 1."""

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}
        self.lines: list[StagedLine] = []
        self.rejects: list[RejectedLine] = []
        self.has_recipients = True
        self._rest = b""
        self._number = 0
        # Physical lines of a row whose quotes are still open.
        self._open: list[bytes] = []
        self._open_bytes = 0
        self._quotes = 0
        self._columns: list[str] = []
        self._delimiter = ","

    def feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._take(line)
        if len(self._rest) > _MAX_RECORD:
            raise BodyInvalid("csv_invalid", f"Line {self._number + 1} has more than {_MAX_RECORD} bytes.")

    def finish(self) -> None:
        if self._rest:
            rest, self._rest = self._rest, b""
            self._take(rest)
        while self._open:
            self._give_up()
        if not self._columns:
            raise BodyInvalid("csv_invalid", "The CSV is empty: it needs a header line with the column 'recipient'.")

    def _take(self, line: bytes) -> None:
        self._number += 1
        if not self._columns:
            self._read_header(line)
            return
        self._open.append(line)
        self._open_bytes += len(line)
        self._quotes += line.count(b'"')
        if self._quotes % 2 == 0:
            row, first = b"\n".join(self._open), self._number - len(self._open) + 1
            self._close()
            self._read_row(first, row)
        elif self._open_bytes > _MAX_RECORD:
            self._give_up()

    def _close(self) -> None:
        self._open, self._open_bytes, self._quotes = [], 0, 0

    def _give_up(self) -> None:
        """The first open line's quote is never closed: it is broken, the lines that it swallowed are read again."""
        broken, *swallowed = self._open
        self._number -= len(self._open)
        self._close()
        self._number += 1
        self._reject(self._number, broken, "A quote is opened and never closed.")
        for line in swallowed:
            self._take(line)

    def _read_header(self, line: bytes) -> None:
        try:
            text = line.removeprefix(b"\xef\xbb\xbf").decode().rstrip("\r")
        except UnicodeDecodeError as error:
            raise BodyInvalid("csv_invalid", "The CSV is not UTF-8; save it again in that encoding.") from error
        for delimiter in _DELIMITERS:
            names = [name.strip() for name in _parse(text, delimiter) or []]
            if "recipient" in names:
                break
        else:
            raise BodyInvalid("csv_invalid", "The header line (line 1) has no column 'recipient'.")
        if "" in names or len(set(names)) < len(names) or not all(map(storable, names)):
            raise BodyInvalid("csv_invalid", "The columns of the header line need names, each its own.")
        self._columns, self._delimiter = names, delimiter

    def _read_row(self, number: int, row: bytes) -> None:
        if not row.strip():
            return
        try:
            text = row.decode().removesuffix("\r")
        except UnicodeDecodeError:
            self._reject(number, row, "The row is not UTF-8.")
            return
        cells = _parse(text, self._delimiter)
        if cells is None:
            self._reject(number, row, "The row's quotes are wrong: a quoted cell ends with a quote and a separator.")
            return
        if len(cells) != len(self._columns):
            self._reject(number, row, f"The row has {len(cells)} cells, the header has {len(self._columns)}.")
            return
        values = dict(zip(self._columns, cells, strict=True))
        recipient, channel = values.pop("recipient"), values.pop("channelId", "").strip()
        if channel and not (channel.isascii() and channel.isdecimal() and len(channel) < 19 and int(channel)):
            reason = "'channelId' is not the id of a channel."
            self.rejects.append(RejectedLine(number, cleaned(recipient), "channel_not_found", reason))
            return
        variables = {name: value for name, value in values.items() if value}
        line = make_line(number, recipient, int(channel or 0), variables)
        if isinstance(line, StagedLine):
            self.lines.append(line)
        else:
            self.rejects.append(line)

    def _reject(self, number: int, row: bytes, reason: str) -> None:
        shown = cleaned(row[: 4 * MAX_RECIPIENT].decode(errors="replace").rstrip("\r"))
        self.rejects.append(RejectedLine(number, shown, "row_broken", reason))


def _parse(text: str, delimiter: str) -> list[str] | None:
    """The cells of one row; None when its quotes are wrong."""
    try:
        rows = list(csv.reader([text], delimiter=delimiter, strict=True))
    except csv.Error:
        return None
    return rows[0] if rows else None
