"""Readings of other processes as columns of one monitor: the workers of a Dask cluster, ranks in a folder."""
