"""One corpus in one profile -> evaluations, results, tuning, leaderboard."""
