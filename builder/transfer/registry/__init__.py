"""Registries: pull, push, login, search, as the OCI distribution specification 1.1 and docker's registry have it.

Read in this order:

    settings      mirrors, insecure and blocked registries, certificates, proxies: which files say what
    hostsfile     containerd's hosts.toml
    endpoints     a reference → the places that may have it; TLS for each
    credentials   config.json, auth.json, helpers
    auth          challenges, tokens, and where a password may go
    client        connections; host   one registry: retries, redirects, scheme; replies   what refusals mean
    repository    the protocol's verbs: manifests, blobs, tags, uploads
    session       all registries of one command; `resolve`
    progress      what is told
    download      one blob in, continued where it broke; pull   an image in
    packing       layers ↔ compressed blobs; upload   one blob out; push   an image out; push_index   several
    copying       from one repository to another
    referrers     what is attested of an image goes along; carried   and is read
    signatures    of images, with keys; login, search

What it promises: nothing is believed before its digest and size are checked, and all that follows a tag goes by digest.
What came is never fetched twice, what was sent never sent twice, by whichever process. An Authorization header stays
with the host it is for. A pulled image goes out again byte for byte: the compressed blobs are kept (`store.packed`).

Nothing here is imported by a command that talks to no registry: urllib3 and ssl cost as much as a whole cached build.
"""
