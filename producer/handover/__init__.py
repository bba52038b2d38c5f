"""A job that another machine goes on with: its list of pages travels through the broker."""
