import cv2
import torch

# Tiny networks on busy machines: a second thread only waits for the first.
torch.set_num_threads(1)
cv2.setNumThreads(0)
