"""A job from manifest to results: feed, job loop, collect, the output folder."""
