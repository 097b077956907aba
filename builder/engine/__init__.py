"""What a user can ask for: one function per verb, arguments as frozen values, results as values.

No printing, no exit codes, no environment: the command line and the API are two thin skins over this. Reading order:
`session` (the open store and what runs on it), `requests` and `options/` (what is asked for), `images`, `transfers`,
`manifests` (lists of images), `imagetools` (images that stay at registries), `builds`, `changes` (images without
containers), `containers`, `specs`, `lifecycle`, `rootfs`, `commit`, `copying` (containers), `resources` (volumes and
networks), `prune`, `wire` (docker's JSON).
"""
