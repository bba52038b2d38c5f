"""What searchable PDFs are made of: pages out of pictures, which page is which, and the text on them."""
