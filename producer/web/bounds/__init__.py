"""What one visitor may take of the service: room on its disk, exports at a time, scans that it dies over."""
