"""Text detection: pixels in, boxes out. Knows nothing of queues.

Importing the package costs nothing; take what you need from its modules::

    from detector.predictor import TextDetector

    detection = TextDetector().detect(Path("photo.jpg"))
    for box in detection.boxes:
        print(box.points, box.score)
"""
