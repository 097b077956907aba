"""docker's small notations (`-v`, `--mount`, `--ulimit`, `512m`, `1m30s`, env files) as pure parsers.

Text in, frozen values out; the command line and the API both use them. Errors are InvalidInput with docker's words.

`units` sizes, durations, cpus · `mounts` -v, --mount, --tmpfs · `limits` ulimits, devices, restart policies, signals ·
`environment` -e, env files, labels
"""
