"""A socket that stands for another one."""

import socket
import threading
from pathlib import Path

import pytest

from builder.pipeline.relay import Relay


def ask(place: Path, text: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as near:
        near.settimeout(60)
        near.connect(str(place))
        near.sendall(text)
        near.shutdown(socket.SHUT_WR)
        got = b""
        while data := near.recv(100):
            got += data
        return got


def test_both_directions_are_passed_on_to_their_ends(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "goal"))
        listener.listen()

        def serve() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                with connection:
                    got = b""
                    while data := connection.recv(1 << 16):
                        got += data
                    connection.sendall(got.upper())

        server = threading.Thread(target=serve)
        server.start()
        with Relay(tmp_path / "near", tmp_path / "goal"):
            assert ask(tmp_path / "near", b"one") == b"ONE"
            assert ask(tmp_path / "near", b"x" * 300_000) == b"X" * 300_000
        server.join()


def test_a_path_of_any_length_will_do_and_nobody_need_listen(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 200)
    deep.mkdir()
    with Relay(deep / "near", deep / "goal"):
        assert (deep / "near").is_socket()


def test_its_end_cuts_connections(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as near:
        listener.bind(str(tmp_path / "goal"))
        listener.listen()
        with Relay(tmp_path / "near", tmp_path / "goal"):
            near.connect(str(tmp_path / "near"))
            far, _ = listener.accept()
        near.settimeout(60)
        assert near.recv(1) == b""
        far.close()
    with pytest.raises(OSError, match="refused"):
        ask(tmp_path / "near", b"")
