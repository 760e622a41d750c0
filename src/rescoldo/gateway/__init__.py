"""The gateway of a cluster: an HAProxy that sends each function's calls to the worker that owns it, and its agent."""
