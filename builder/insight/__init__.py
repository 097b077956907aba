"""Reading what is there: what an image contains, and what makes two of them different. Nothing here changes anything.

listing    an image's merged files as entries
packages   what package managers say is installed: dpkg, apk, rpm, Python, npm
sbom       packages as CycloneDX and SPDX documents
compare    two images: files, packages, config, sizes, setuid, capabilities
"""
