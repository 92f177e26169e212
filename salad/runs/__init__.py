"""Run folder: its files, atomic writes, lock and followers."""
