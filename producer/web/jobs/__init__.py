"""A job of the page: whose it is on the broker, and what is told of its pages."""
