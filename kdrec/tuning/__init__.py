"""The search for settings: what may be tried, what to try next, and what was tried."""
