"""The fence: the privileged part of a guarded host. Blocks addresses in the kernel, and refuses what must never be.

It imports only the standard library and nobody imports it: a guard speaks to it over a Unix socket.
"""
