"""The tables, as one script per schema version: version n is what the first n scripts leave.

A script never changes once a release has it; a change of the schema is a new script at the end. Statements end with
a semicolon at the end of a line. Times are nanoseconds since the epoch unless a name says otherwise.
"""

from __future__ import annotations

APPLICATION_ID = 0x6C616D69

_VERSION_1 = """
CREATE TABLE layers (
    id TEXT PRIMARY KEY,
    diff_id TEXT,
    content_digest TEXT,
    size INTEGER,
    tar_size INTEGER,
    files INTEGER,
    recipe TEXT,
    boot TEXT,
    created INTEGER NOT NULL,
    last_used INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX layers_by_diff_id ON layers (diff_id);
CREATE INDEX layers_by_boot ON layers (boot) WHERE boot IS NOT NULL;
CREATE TABLE actives (
    key TEXT PRIMARY KEY,
    lease TEXT,
    container TEXT,
    parents TEXT NOT NULL,
    created INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE failed (
    key TEXT PRIMARY KEY,
    build TEXT NOT NULL,
    step INTEGER NOT NULL,
    parents TEXT NOT NULL,
    created INTEGER NOT NULL,
    expires INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE flats (
    key TEXT PRIMARY KEY,
    layers TEXT NOT NULL,
    boot TEXT NOT NULL,
    created INTEGER NOT NULL,
    last_used INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE images (
    id TEXT PRIMARY KEY,
    parent TEXT,
    origin TEXT NOT NULL,
    platform TEXT NOT NULL,
    config_created INTEGER,
    created INTEGER NOT NULL,
    config BLOB NOT NULL
);
CREATE INDEX images_by_parent ON images (parent);
CREATE TABLE image_layers (
    image TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    layer TEXT NOT NULL,
    PRIMARY KEY (image, position)
) WITHOUT ROWID;
CREATE INDEX image_layers_by_layer ON image_layers (layer);
CREATE TABLE manifests (
    digest TEXT PRIMARY KEY,
    image TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    media_type TEXT NOT NULL,
    document BLOB NOT NULL
);
CREATE INDEX manifests_by_image ON manifests (image);
CREATE TABLE indexes (
    digest TEXT PRIMARY KEY,
    media_type TEXT NOT NULL,
    created INTEGER NOT NULL,
    document BLOB NOT NULL
);
CREATE TABLE index_images (
    digest TEXT NOT NULL REFERENCES indexes (digest) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    image TEXT NOT NULL,
    PRIMARY KEY (digest, position)
) WITHOUT ROWID;
CREATE TABLE refs (
    name TEXT PRIMARY KEY,
    target TEXT NOT NULL,
    created INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX refs_by_target ON refs (target);
CREATE TABLE blobs (
    digest TEXT PRIMARY KEY,
    size INTEGER NOT NULL,
    created INTEGER NOT NULL,
    last_used INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE cache_records (
    key TEXT PRIMARY KEY,
    content_key TEXT,
    step TEXT NOT NULL,
    text TEXT NOT NULL,
    leaves TEXT NOT NULL,
    parent TEXT,
    layer TEXT,
    content_digest TEXT,
    result TEXT NOT NULL,
    build TEXT,
    duration_us INTEGER NOT NULL,
    created INTEGER NOT NULL,
    last_used INTEGER NOT NULL,
    uses INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX cache_by_content ON cache_records (content_key);
CREATE INDEX cache_by_step ON cache_records (step, created);
CREATE INDEX cache_by_layer ON cache_records (layer);
CREATE TABLE file_digests (
    inode INTEGER NOT NULL,
    device INTEGER NOT NULL,
    size INTEGER NOT NULL,
    mtime INTEGER NOT NULL,
    ctime INTEGER NOT NULL,
    digest BLOB NOT NULL,
    PRIMARY KEY (inode, device)
) WITHOUT ROWID;
CREATE TABLE selections (
    fingerprint BLOB PRIMARY KEY,
    digest BLOB NOT NULL,
    created INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE parsed (
    key TEXT PRIMARY KEY,
    data BLOB NOT NULL,
    created INTEGER NOT NULL
);
CREATE TABLE builds (
    id TEXT PRIMARY KEY,
    started INTEGER NOT NULL,
    finished INTEGER,
    status TEXT NOT NULL,
    image TEXT,
    error TEXT,
    lease TEXT,
    facts TEXT NOT NULL,
    dockerfile BLOB NOT NULL
);
CREATE INDEX builds_by_start ON builds (started);
CREATE TABLE steps (
    build TEXT NOT NULL REFERENCES builds (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    name TEXT NOT NULL,
    status TEXT NOT NULL,
    key TEXT,
    step TEXT,
    layer TEXT,
    started INTEGER,
    finished INTEGER,
    exit_code INTEGER,
    facts TEXT NOT NULL,
    PRIMARY KEY (build, number)
) WITHOUT ROWID;
CREATE TABLE containers (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    image TEXT NOT NULL,
    layer TEXT,
    created INTEGER NOT NULL,
    config TEXT NOT NULL
);
CREATE INDEX containers_by_image ON containers (image);
CREATE TABLE leases (
    id TEXT PRIMARY KEY,
    boot TEXT NOT NULL,
    pid INTEGER NOT NULL,
    started INTEGER NOT NULL,
    created INTEGER NOT NULL,
    note TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE lease_items (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    lease TEXT NOT NULL REFERENCES leases (id) ON DELETE CASCADE,
    PRIMARY KEY (kind, name, lease)
) WITHOUT ROWID;
CREATE INDEX lease_items_by_lease ON lease_items (lease)
"""

_VERSION_2 = """
ALTER TABLE cache_records ADD COLUMN place TEXT NOT NULL DEFAULT '';
CREATE INDEX cache_by_place ON cache_records (place, created);
CREATE TABLE copied_files (
    layer TEXT PRIMARY KEY REFERENCES layers (id) ON DELETE CASCADE,
    data BLOB NOT NULL
)
"""

_CACHE_MOUNTS = """
CREATE TABLE cache_mounts (
    name TEXT PRIMARY KEY,
    id TEXT NOT NULL,
    origin TEXT NOT NULL,
    created INTEGER NOT NULL,
    last_used INTEGER NOT NULL,
    uses INTEGER NOT NULL
) WITHOUT ROWID
"""

_PACKED = """
CREATE TABLE packed (
    digest TEXT PRIMARY KEY,
    diff_id TEXT NOT NULL,
    size INTEGER NOT NULL,
    media_type TEXT NOT NULL,
    method TEXT NOT NULL,
    created INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX packed_by_diff_id ON packed (diff_id);
CREATE TABLE origins (
    digest TEXT NOT NULL REFERENCES packed (digest) ON DELETE CASCADE,
    repository TEXT NOT NULL,
    seen INTEGER NOT NULL,
    PRIMARY KEY (digest, repository)
) WITHOUT ROWID;
CREATE TABLE uploads (
    digest TEXT NOT NULL,
    repository TEXT NOT NULL,
    location TEXT NOT NULL,
    created INTEGER NOT NULL,
    PRIMARY KEY (digest, repository)
) WITHOUT ROWID
"""

_ATTESTATIONS = """
CREATE TABLE attestations (
    image TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    type TEXT NOT NULL,
    digest TEXT NOT NULL,
    created INTEGER NOT NULL,
    PRIMARY KEY (image, type)
) WITHOUT ROWID
"""

_CACHE_MOUNT_SIZES = """
ALTER TABLE cache_mounts ADD COLUMN size INTEGER
"""
"""NULL: a step has used it, and nobody has counted since."""

_INDEX_MEMBERS = """
ALTER TABLE manifests ADD COLUMN made INTEGER NOT NULL DEFAULT 0;
CREATE TABLE index_members (
    digest TEXT NOT NULL REFERENCES indexes (digest) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    manifest TEXT NOT NULL,
    platform TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (digest, position)
) WITHOUT ROWID;
CREATE INDEX index_members_by_manifest ON index_members (manifest);
INSERT INTO index_members (digest, position, manifest)
    SELECT i.digest, m.key, json_extract(m.value, '$.digest')
    FROM indexes i, json_each(CAST(i.document AS TEXT), '$.manifests') m;
DROP TABLE index_images;
CREATE VIEW index_images AS
    SELECT x.digest, x.position, i.id AS image, CASE x.platform WHEN '' THEN i.platform ELSE x.platform END AS platform
    FROM index_members x JOIN manifests m ON m.digest = x.manifest JOIN images i ON i.id = m.image;
CREATE TABLE manifest_origins (
    digest TEXT NOT NULL,
    repository TEXT NOT NULL,
    seen INTEGER NOT NULL,
    PRIMARY KEY (digest, repository)
) WITHOUT ROWID
"""

_MEMBER_NAMES = """
ALTER TABLE index_members ADD COLUMN name TEXT NOT NULL DEFAULT ''
"""

_MOUNTED_IMAGES = """
CREATE TABLE mounted_images (
    container TEXT NOT NULL REFERENCES containers (id) ON DELETE CASCADE,
    image TEXT NOT NULL,
    PRIMARY KEY (image, container)
) WITHOUT ROWID;
CREATE INDEX mounted_images_by_container ON mounted_images (container);
INSERT OR IGNORE INTO mounted_images (container, image)
    SELECT c.id, json_extract(m.value, '$.source') FROM containers c, json_each(c.config, '$.mounts') m
    WHERE json_extract(m.value, '$.request.type') = 'image';
CREATE VIEW image_users AS
    SELECT image, id AS container FROM containers UNION ALL SELECT image, container FROM mounted_images
"""
"""An image is used by the containers that were made from it and by those that mount it."""

MIGRATIONS: tuple[str, ...] = (
    _VERSION_1,
    _VERSION_2,
    _CACHE_MOUNTS,
    _PACKED,
    _ATTESTATIONS,
    _CACHE_MOUNT_SIZES,
    _INDEX_MEMBERS,
    _MEMBER_NAMES,
    _MOUNTED_IMAGES,
)
"""Script n brings version n to n + 1."""
