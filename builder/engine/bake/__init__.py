"""docker-bake files: from their texts to targets, and targets to images. All but `run` and `remote` is pure.

Reading order: `syntax` (expressions and blocks, whatever they were written in), `hcl` with `templates`, and `jsonfile`
(texts to syntax), `values`, `types` and `evaluate` (syntax to values) with `functions/` (the standard library),
`target` (what a target is, and how two are merged), `definition` with `lazy` and `variables` (blocks to targets and
groups), `interpolate` and `compose` (the same from compose files), `files` (which file is what), `resolve`
(inheritance, groups, links, --set), `arguments` (a target as a command line of `build`), `entitlements` (what must be
allowed), `run` (several builds as one graph).
"""
