"""The command line: a thin skin over `builder.engine`, in docker's words.

Reading order: `registry` (which command lives in which module), `flags` (how words become values), `app` (finds the
command, runs it, turns errors into texts and exit codes), `exitcodes` (the table), `context` (what a command is given),
`commands/` (one module per family), `repeats` (a build that was asked for before), `tables`, `gotemplate`, `units` (how
results look), `progress/` (how builds look), `warnings`, `calls`, `sarif` (how findings look), `mirror` (the same
tables as click objects, for help and completion only).

Start-up is part of the product: this module imports nothing that `lamina --version` does not need.
"""

import os
import sys


def main() -> int:
    """The console script: does what the command line says and ends the process.

    Without taking it apart: all that must be closed or written is, and dropping modules one by one takes 5 ms."""
    code = _run(sys.argv[1:])
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except OSError:
        return code
    os._exit(code)


def _run(arguments: list[str]) -> int:
    if arguments in (["--version"], ["-v"]):
        from builder import VERSION

        sys.stdout.write(f"lamina version {VERSION}\n")
        return 0
    from builder.cli import app

    return app.run(arguments)
