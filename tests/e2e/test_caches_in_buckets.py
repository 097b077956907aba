"""type=s3 of --cache-to and --cache-from, against moto's server."""

import json
import re
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from moto.server import ThreadedMotoServer
from proxy import Proxy

pytestmark = pytest.mark.root

Lamina = Any
KEY, SECRET, TOKEN = "AKIDOFTHETEST", "hush/hush", "a+token"


@dataclass(frozen=True)
class Bucket:
    client: Any
    name: str
    flags: str

    def sizes(self) -> dict[str, int]:
        listed = self.client.list_objects_v2(Bucket=self.name)["Contents"]
        return {each["Key"]: each["Size"] for each in listed}


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    session = botocore.session.get_session()
    client = session.create_client(
        "s3", region_name="us-east-1", endpoint_url=url, aws_access_key_id=KEY, aws_secret_access_key=SECRET
    )
    name = f"caches-{uuid.uuid4().hex}"  # what moto has outlives its server
    client.create_bucket(Bucket=name)
    account = f"access_key_id={KEY},secret_access_key={SECRET},session_token={TOKEN}"
    try:
        where = f"type=s3,bucket={name},region=us-east-1,endpoint_url={url},use_path_style=true"
        yield Bucket(client, name, f"{where},{account}")
    finally:
        client.close()
        server.stop()


@pytest.fixture
def context(tmp_path: Path) -> Path:
    made = tmp_path / "context"
    made.mkdir()
    (made / "Dockerfile").write_text(
        "FROM busybox AS tools\nRUN head -c 20000000 /dev/urandom > /made\n"
        "FROM busybox\nRUN date > /1\nCOPY Dockerfile /\nCOPY --from=tools /made /tool\n"
    )
    return made


def build(machine: Lamina, context: Path, *flags: str) -> tuple[list[str], str]:
    """(diff_ids, all that was told)."""
    done = machine("build", "--progress=plain", "-t", "app", *flags, context)
    machine("fsck")
    (image,) = json.loads(machine.text("inspect", "app"))
    told = done.stderr.decode()
    assert not any(secret in told for secret in (KEY, SECRET, TOKEN))
    return image["RootFS"]["Layers"], told


def ran(told: str) -> int:
    return told.count("DONE") - 1


def test_a_bucket_takes_a_cache_to_another_machine_that_runs_no_step(
    machines: Callable[[], Lamina], context: Path, bucket: Bucket
) -> None:
    first, told = build(machines(), context, f"--cache-to={bucket.flags},mode=max,prefix=ours/,name=a;b")
    assert "WARN" not in told and len(set(re.findall(" writing ([0-9a-f]{12}) .*B done", told))) == 4
    there = bucket.sizes()
    assert {"ours/manifests/a", "ours/manifests/b"} < there.keys()
    assert all(key.startswith(("ours/manifests/", "ours/blobs/sha256:")) for key in there)
    second = machines()
    got, told = build(second, context, f"--cache-from={bucket.flags},prefix=ours/,name=b")
    assert (got, "WARN" in told, told.count("CACHED")) == (first, False, 3)
    assert told.count(" downloading ") == told.count(" extracting ") == 3
    # The stage that only gave a file was not needed: its layer was not fetched.
    assert len(second.text("builder", "du", "--format", "json").splitlines()) == 3
    # What came from there is known to be there.
    build(second, context, f"--cache-to={bucket.flags},prefix=ours/,name=c")
    new = {key for key in bucket.sizes() if key not in there}
    assert "ours/manifests/c" in new and len(new) == 2


def test_an_old_object_that_is_still_used_is_made_young_again(
    machines: Callable[[], Lamina], context: Path, bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    machine, sent = machines(), []
    build(machine, context, f"--cache-to={bucket.flags},mode=max")
    large = max(bucket.sizes().items(), key=lambda each: each[1])[0]
    for refresh in ("24h", "0s"):
        with caplog.at_level("INFO", "werkzeug"):
            caplog.clear()
            _, told = build(machine, context, f"--cache-to={bucket.flags},mode=max,touch_refresh={refresh}")
        sent.append(sum(f"PUT /{bucket.name}/{large} " in line for line in caplog.messages))
        assert "WARN" not in told
    assert sent == [0, 1]


def test_what_a_bucket_cannot_do_is_a_warning_without_its_keys(
    machines: Callable[[], Lamina], context: Path, bucket: Bucket
) -> None:
    other = bucket.flags.replace(bucket.name, "nowhere")
    machine = machines()
    _, told = build(machine, context, f"--cache-to={other}", f"--cache-from={other}")
    assert "importing cache from nowhere failed: no build cache in bucket nowhere/manifests/buildkit" in told
    assert "exporting cache to nowhere failed: nowhere: The specified bucket does not exist" in told
    # A cache of BuildKit's, or anything else under the name.
    bucket.client.put_object(Bucket=bucket.name, Key="manifests/buildkit", Body=b'{"layers": [], "records": []}')
    _, told = build(machine, context, f"--cache-from={bucket.flags}")
    assert f"importing cache from {bucket.name} failed" in told
    # A layer that is damaged, and one that has gone.
    build(machine, context, f"--cache-to={bucket.flags},mode=max")
    blobs = {key: size for key, size in bucket.sizes().items() if "blobs" in key}
    for key in (key for key in blobs if blobs[key] > 1 << 20):
        bucket.client.put_object(Bucket=bucket.name, Key=key, Body=bytes(blobs[key]))
    _, told = build(machines(), context, f"--cache-from={bucket.flags}")
    assert f"cache of bucket {bucket.name}/manifests/buildkit: blob has digest" in told and told.count("CACHED") == 2
    for key in blobs:
        bucket.client.delete_object(Bucket=bucket.name, Key=key)
    _, told = build(machines(), context, f"--cache-from={bucket.flags}")
    assert f"importing cache from {bucket.name} failed: no build cache" in told


def test_ctrl_c_ends_an_export_that_does_not_get_on(
    machines: Callable[[], Lamina], context: Path, bucket: Bucket
) -> None:
    url = bucket.flags.split("endpoint_url=http://")[1].split(",")[0]
    with Proxy(url, counted="up", stall=True) as proxy:
        proxy.budget = 9 << 20
        flag = "--cache-to=" + bucket.flags.replace(url, proxy.host)
        build = machines().start("build", "-q", flag, context, stderr=subprocess.PIPE)
        try:
            assert proxy.used_up.wait(100)
            build.send_signal(signal.SIGINT)
            told = build.communicate(timeout=60)[1].decode()
        finally:
            build.kill()
            build.wait()
    assert build.returncode == 130 and "context canceled" in told


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("type=s3,region=r", "bucket ($AWS_BUCKET) not set for s3 cache"),
        ("type=s3,bucket=b", "region ($AWS_REGION) not set for s3 cache"),
        ("type=s3,bucket=b,region=r,upload_parallelism=0", "upload_parallelism must be a positive integer"),
        ("type=s3,bucket=b,region=r,touch_refresh=soon", "soon"),
        ("type=s3,bucket=b,region=r,endpoint_url=minio:9000", "invalid endpoint_url 'minio:9000'"),
        ("type=s3,bucket=b,region=r,use_path_style=perhaps", "invalid use_path_style 'perhaps'"),
    ],
)
def test_what_cannot_be_meant_is_refused(busybox_store: Lamina, context: Path, flag: str, text: str) -> None:
    assert text in busybox_store("build", f"--cache-to={flag}", context, code=None).stderr.decode()


def test_without_the_extra_it_is_said_what_to_install(busybox_store: Lamina, context: Path, tmp_path: Path) -> None:
    (tmp_path / "s3fs.py").write_text("raise ImportError('no such package', name='s3fs')")
    flag = "--cache-to=type=s3,bucket=b,region=r"
    told = busybox_store("build", flag, context, code=1, environment={"PYTHONPATH": str(tmp_path)}).stderr.decode()
    assert "needs the package s3fs" in told and "pip install 'lamina[s3]'" in told
