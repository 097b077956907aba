"""How images come in and go out.

`docker_archive` (save and load: docker's and the OCI layout in one archive; `outer` reads it member by member;
`archived_index` what is for several platforms),
`layers` (one tar into the store or out of it, byte for byte), `importer` (import and export of root file systems),
`registry` (pull and push), `attested` (what goes out with an image and says something of it), `caches` (build caches
that travel), `bootstrap` (base images without a registry: `mirrors` finds and checks packages, `busybox` and `debian`
make systems of them).
"""
