"""Galen's engine next to other libraries: the same inputs, the same work, the same clock."""
