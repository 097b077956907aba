"""What knows images: values (oci), the disk (store), archives (transfer), builds (pipeline), and the skins over them.

Inside, each may import only what stands left of it: oci, store, transfer, pipeline, engine, cli.
"""

VERSION = "0.1.0"
