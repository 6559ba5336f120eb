"""The event stream (Server-Sent Events) and its tickets."""
