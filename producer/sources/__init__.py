"""What a person names: files, folders, archives, PDF and TIFF pages, remote objects."""
