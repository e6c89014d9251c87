"""
Escaping of text from servers, tables and webhooks for terminals and logs.

A terminal interprets control characters: escape sequences move the cursor, set the title or rewrite
lines, and bidirectional controls show a text in another order than it has.
"""

from __future__ import annotations

import logging
import re

_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def printable(text: str) -> str:
    r"""Replace what a terminal would interpret by its escape, such as ``\x1b``."""
    return _CONTROL.sub(lambda found: _escaped(ord(found[0])), text)


def printable_logger(name: str) -> logging.Logger:
    """Return the logger of a module, whose messages are escaped before any handler gets them."""
    logger = logging.getLogger(name)
    logger.addFilter(_make_printable)
    return logger


def _make_printable(record: logging.LogRecord) -> bool:
    # A record is a line: what it quotes may not begin another.
    record.msg, record.args = printable(record.getMessage()).replace("\n", "\\n"), None
    return True


def _escaped(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
