"""The fence: the privileged part of a guarded host. It blocks addresses in the kernel, except never-block targets.

It imports only the standard library and nobody imports it: a guard speaks to it over a Unix socket.
"""
