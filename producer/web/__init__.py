"""The page and the HTTP API (`ocr-producer serve`). It never decodes an image: an upload goes the way of every page."""
