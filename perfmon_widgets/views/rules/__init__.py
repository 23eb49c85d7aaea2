"""The rules: what may hold the work up, a function each. Columns that do not exist make them silent."""
