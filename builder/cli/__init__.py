"""The command line: a thin skin over `builder.engine`, in docker's words.

Reading order: `registry` (which command lives in which module), `flags` (how words become values), `app` (finds the
command, runs it, turns errors into texts and exit codes), `exitcodes` (the table), `context` (what a command is given),
`commands/` (one module per family), `tables`, `gotemplate`, `units` (how results look), `progress/` (how builds look),
`mirror` (the same tables as click objects, for help and completion only).

Start-up is part of the product: this module imports nothing that `lamina --version` does not need.
"""

import sys


def main() -> int:
    """The console script.  Gives the exit code."""
    if sys.argv[1:] in (["--version"], ["-v"]):
        from builder import VERSION

        sys.stdout.write(f"lamina version {VERSION}\n")
        return 0
    from builder.cli import app

    return app.run(sys.argv[1:])
