"""What is shown, as data: words, statistics, gauges and figures, decided once for every face."""
