"""Reading what is there: what an image contains, and what makes two of them different. Nothing here changes anything.

listing    an image's merged files as entries
packages   what package managers say is installed: dpkg, apk, rpm, Python, npm
sbom       packages as CycloneDX and SPDX documents
provenance what a build was made from, by whom and how, as a SLSA predicate; llb   its steps in BuildKit's words
compare    two images: files, packages, config, sizes, setuid, capabilities
"""
