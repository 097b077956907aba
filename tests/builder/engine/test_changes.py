"""`-c` instructions change a config as a build would."""

import pytest

from builder.engine.changes import apply
from builder.errors import InvalidInput
from builder.oci.configs import ContainerConfig, ImageConfig
from parser.errors import DockerfileError

CONFIG = ImageConfig("amd64", "linux", ContainerConfig(env=("A=1",)))


def test_instructions_change_the_config() -> None:
    changed = apply(
        CONFIG, ["ENV B=$A", 'CMD ["sh"]', "USER app", "WORKDIR /srv", "EXPOSE 80", "LABEL a=b", "VOLUME /v"]
    ).config
    assert changed.env == ("A=1", "B=1")
    assert (changed.cmd, changed.user, changed.working_dir) == (("sh",), "app", "/srv")
    assert (changed.exposed_ports, dict(changed.labels), changed.volumes) == (("80/tcp",), {"a": "b"}, ("/v",))


def test_instructions_that_make_layers_are_refused() -> None:
    with pytest.raises((InvalidInput, DockerfileError)):
        apply(CONFIG, ["RUN true"])
    with pytest.raises(DockerfileError):
        apply(CONFIG, ["NOPE x"])
