"""The manager: takes what agents say into a store, judges it, and sends policies."""
