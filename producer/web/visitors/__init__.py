"""What a visitor takes of the page for as long as he likes: places for bodies of JSON, and for watching a job."""
