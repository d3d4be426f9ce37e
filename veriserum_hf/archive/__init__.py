"""The download: where its parts lie, what its tables mean, and what is wrong with it."""
