"""White space as Go counts it, since docker's parser is the rule.

Python's `str.strip()` and `\\s` also take the separators U+001C to U+001F, which Go does not.
"""

from __future__ import annotations

__all__ = ["BLANKS", "SPACES"]

BLANKS = "\t\v\f\r "
"""What separates an instruction's name and plain words."""

SPACES = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
"""Unicode's White_Space: what is trimmed from ends, and what separates quoted words."""
