"""Attempts to connect to a broker: the reason of one that fails is for people."""

import gc
import socket
import ssl
import threading

from manager.mqtt.broker_address import BrokerAddress
from manager.mqtt.connect_attempt import ConnectAttempt
from manager.mqtt.paho_client import BufferedClient


def test_a_broker_that_stands_still_is_said_to_answer_no_handshake() -> None:
    """Its kernel takes the connection and nobody answers, as beside a suspended process: the seconds are named."""
    with socket.create_server(("127.0.0.1", 0)) as suspended:
        client = BufferedClient("test")
        client.connect_timeout = 0.2
        client.tls_set_context(ssl.create_default_context())
        ended = threading.Event()
        address = BrokerAddress("127.0.0.1", suspended.getsockname()[1], tls=True)
        attempt = ConnectAttempt(client, address, 60, ended.set)
        assert ended.wait(60)
        client.close_sockets()
    assert attempt.error == "it neither takes a connection nor answers its TLS handshake within 0.2 s"
    gc.collect()
