"""One module per family of commands; each has COMMANDS, a mapping from the registry's keys to `flags.Command`."""
