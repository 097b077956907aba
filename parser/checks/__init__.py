"""The checks of `docker build --check`, and their repairs. Pure: a parsed file and its surroundings in, findings out.

The map, in reading order:

    rules         the rules as data; `Finding`
    options       which rules speak: `# check=`, the build argument, comments above an instruction
    surroundings  what a Dockerfile does not say itself: `Surroundings`, `ImageFacts`
    forms         how a file is written: statements, keywords, stage names
    names         which variables look like secrets, which are near to others
    scopes        the arguments above the first FROM, and FROM lines
    stages        one stage, instruction by instruction
    walk          the stages that are wanted, in order
    file          `check`: all of them on one file
    outline       what a target takes, and which targets there are: the same walk
    positions, fixes, repairs
                  edits of the text: `repair` does what is certain, and nothing else

Findings, texts, order and places are docker's (frontend 1.26). What a build fails with is not found here: the walk
stops there, and `Report.error` says why.
"""

from __future__ import annotations

from parser.checks.file import Report, check, check_text
from parser.checks.rules import RULES, Finding, Rule
from parser.checks.surroundings import ImageFacts, Surroundings

__all__ = ["RULES", "Finding", "ImageFacts", "Report", "Rule", "Surroundings", "check", "check_text"]
