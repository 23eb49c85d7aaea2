"""One monitor: the sampling thread, the history, the CSV log, and cells, spans and marks."""
