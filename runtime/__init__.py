"""Containers, and what they use of the host: namespaces, mounts, control groups, networks, volumes, logs.

It knows no image.
In reading order:

    values                  dataclasses that cost nothing before they are used
    spec, defaults          what a container is to be; docker's hardening, value for value
    container               starting one from a command; launcher, sync   the clean process that forks, its messages
    init, boot, become      parent and child of the first process, in the one order that is safe; enter   exec
    rootfs, filesystems, targets   layers mounted where nobody else sees them; every other mount; places to mount on
    capabilities, seccomp, users, idmap, userns   what a process may do, and who it is
    console, terminal       the container's end and the user's end of a terminal
    cgroups/                limits and accounting, version 1 and 2 behind one interface
    supervised, supervisor* the process that stays with a container, and how commands talk to it; states, restarts,
                            healthcheck, logs, logwriter
    networks, networkstate, endpoints, addresses, interfaces, firewall, ports   bridges, addresses, NAT, published ports
    names, resolver, dnsmessage   names inside containers; usernet   a plain user's network
    binfmt                  which programs for other machines this kernel runs
    volumes, volumecopy     directories that outlive containers
    linux/, profiles/       system calls, the only place for ctypes; the seccomp profile

The process that makes namespaces has one thread and was started clean: never a command that runs an event loop or a
thread pool. What it imports is part of every container's start.
"""
