"""The signed policy and the organization's blocklist: verification, storage, acknowledgement."""
