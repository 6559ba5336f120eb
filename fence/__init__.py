"""The fence: the privileged part of a guarded host. It blocks addresses in the kernel, except never-block targets.

It imports only the standard library and no other part imports it: a guard sends requests over a Unix socket.
"""
