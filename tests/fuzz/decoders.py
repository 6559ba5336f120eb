"""The inventory: everything in the product that reads bytes from the network, from disk, or from an operator."""

from tests.fuzz.broker_decoders import MQTT
from tests.fuzz.contract_decoders import CONTRACT
from tests.fuzz.fence_decoders import FENCE
from tests.fuzz.guard_decoders import GUARD
from tests.fuzz.manager_decoders import MANAGER
from tests.fuzz.notification_decoders import NOTIFICATIONS
from tests.fuzz.store_decoders import STORE

DECODERS = (*CONTRACT, *MQTT, *MANAGER, *STORE, *NOTIFICATIONS, *GUARD, *FENCE)
