"""Message delivery without I/O: sessions, queues, subscriptions, retained messages, and the router between them."""
