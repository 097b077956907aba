"""Images as values: no files, no clock, nothing that can fail except on its input.

Read in this order:

    digests      Digest, DiffID, ChainID, ContentDigest; the one parser of digests
    documents    strict, bounded JSON
    times        RFC 3339 with nanoseconds
    platforms    os/arch/variant in normal form
    references   registry/repository:tag@digest with docker's rules; purls   the same as package URLs
    descriptors  pointers to blobs; media types
    manifests    Manifest and Index; claims   what signatures of them are made over
    configs      ImageConfig, ContainerConfig, History, Healthcheck
    mutate       new configs from old ones
    validate     is a whole image consistent?

Modules are imported by name (`from builder.oci import digests`), so that a command loads only what it uses.
"""
