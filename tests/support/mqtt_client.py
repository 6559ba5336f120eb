"""An MQTT client of tests, by paho."""

from paho.mqtt.enums import MQTTErrorCode

from manager.mqtt.paho_client import ClosingClient


class MqttClient(ClosingClient):
    """paho's client with a thread of its own, whose sockets are closed when that is stopped.

    What is left to the garbage collector becomes a warning in whichever test runs by then.
    """

    def loop_stop(self) -> MQTTErrorCode:
        """Stop the thread and close the sockets."""
        code = super().loop_stop()
        self.close_sockets()
        return code
