"""The MQTT door: a consumer that acknowledges only what is committed, and the publisher, over paho."""
