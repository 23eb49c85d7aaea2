"""What is shown, as data: words, statistics, gauges and figures, the same in every user interface."""
