"""What knows images: values (oci), the disk (store), archives and base images (transfer), builds (pipeline), and the skins.

Inside, each may import only what stands left of it: oci, store, transfer, pipeline, insight, engine, cli.
"""

__version__ = "0.1.0"
