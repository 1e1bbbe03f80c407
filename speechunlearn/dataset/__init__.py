"""A manifest -> splits, tasks, waveforms in memory."""
