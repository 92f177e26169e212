"""What a run needs around its mathematics: files, locks, signals, processes, devices, logs."""
