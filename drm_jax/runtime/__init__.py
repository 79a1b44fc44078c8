"""What a long job needs of its machine: locks, signals, notices, the cache of compiled programs."""
