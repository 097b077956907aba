"""From a parsed Dockerfile to an image in the store.

Read in this order: `request` (what is asked for, what comes back), `progress` (what is told meanwhile), `scope` (which
variables a word sees), `steps` (the decided units of work), `plan` and `walk` (pure: text, arguments and base configs
to ordered steps), `cachekeys` (the named leaves of a step's key, and why a key missed), `sources` (the files that steps
read), `lookup` (what the cache has of a plan), `travel` (what caches of other machines have of it), `contents` (what
steps stand on, by content), `executor` (the one piece with effects) with `schedule`, `behind`, `written`, `run_step`,
`foreign` (can it run here?), `wiring`, `copy_step` and `add_step`, and `build`, which ties them together for one
request. `checking` and `findings` are what a build is told at its end: of its Dockerfile, of its layers.

`context`, `ignore`, `globs` and `filehash` are about the files that COPY and ADD take.

A build that was made before takes a shorter way: `replay` spares it parsing and planning, `unchanged`, where nothing
that `looks` noted has changed, everything.
"""
