"""The tuned routines; each has a naive twin in the tests that says the same in few lines."""
