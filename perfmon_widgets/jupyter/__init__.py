"""This Jupyter kernel: its cells, its control channel, and the extension of the Jupyter server."""
