"""A fleet on this machine: private server, worker, beat."""
