"""Readings of other processes as columns of one monitor: workers of Dask, nodes of Ray, ranks in a folder."""
