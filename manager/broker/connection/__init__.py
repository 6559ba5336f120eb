"""One client connection: the listening socket, packet reading, CONNECT, and the handler that serves it."""
