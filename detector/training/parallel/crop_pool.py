"""A pool of crops on the device: filled as fast as they are drawn, drawn from as fast as the network learns."""

from __future__ import annotations

import threading
import time
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from detector.convert.interrupts import interrupt_later
from detector.models import IMAGENET_MEAN, IMAGENET_STD
from detector.training.dataset import Batch
from detector.training.parallel.crop_workers import BLOCK, CropWorkers


class CropPool:
    """The newest ``size`` crops of some workers; a crop is seen again now and then, in another light.

    Args:
        workers: running.
        size: crops, a multiple of 8; each takes 7 S^2 bytes of the device's memory (1.8 MB at 512 px).
        crop: side, pixels.
        device: of the network.
        seed: of the choice and the light.
    """

    def __init__(self, workers: CropWorkers, size: int, crop: int, device: torch.device, seed: int) -> None:
        self._workers, self._size, self._device = workers, size // BLOCK * BLOCK, device
        self._images = torch.empty((self._size, crop, crop, 3), dtype=torch.uint8, device=device)
        self._targets = torch.empty((self._size, 4, crop, crop), dtype=torch.uint8, device=device)
        self._generator = torch.Generator(device=device)
        self._generator.manual_seed(seed)
        self._mean = torch.tensor(IMAGENET_MEAN, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(IMAGENET_STD, device=device).view(1, 3, 1, 1)
        self._lock = threading.Lock()  # a crop's image and its targets change together
        self._stream: Any = torch.cuda.Stream() if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._error: BaseException | None = None
        self.made = 0
        # No daemon, which would abort the process from inside torch when Python ends: it ends when its workers do.
        with interrupt_later():  # see `dataset.BatchSource.stream`
            threading.Thread(target=self._fill, name="crops").start()

    def wait(self, crops: int) -> None:
        """Waits for that many.

        Raises:
            CropWorkerError: they will not come.
        """
        while self.made < crops:
            self._check()
            time.sleep(0.05)

    def paused(self) -> AbstractContextManager[Any]:
        """Inside it nothing is copied to the device, and no batch can be had."""
        return self._lock

    def batch(self, size: int) -> Batch:
        """``size`` crops of the pool, as `dataset.BatchSource` gives them.

        Raises:
            CropWorkerError: nobody fills the pool any more.
        """
        self._check()
        with self._lock:
            chosen = torch.randint(min(self.made, self._size), (size,), device=self._device, generator=self._generator)
            images, targets = self._images[chosen], self._targets[chosen]
        lit = self._light(images.permute(0, 3, 1, 2).float() / 255)
        return Batch(
            ((lit - self._mean) / self._std).contiguous(memory_format=torch.channels_last), targets.float() / 255
        )

    def _light(self, image: Tensor) -> Tensor:
        """Other gamma, contrast, colour, brightness and noise, mildly: the crop had its share when it was drawn."""
        n = len(image)
        image = image.clamp(1e-4) ** torch.exp(self._normal(n, 1) * 0.15)
        contrast = torch.exp(self._normal(n, 1) * 0.12) * torch.exp(self._normal(n, 3) * 0.06)
        image = (image - 0.5) * contrast + 0.5 + self._normal(n, 1) * 0.05
        noisy = (self._uniform(n) < 0.3) * self._uniform(n) * (8 / 255)
        noise = torch.randn(image.shape, device=self._device, generator=self._generator)
        return (image + noise * noisy).clamp(0, 1)

    def _normal(self, size: int, channels: int) -> Tensor:
        return torch.randn(size, channels, 1, 1, device=self._device, generator=self._generator)

    def _uniform(self, size: int) -> Tensor:
        return torch.rand(size, 1, 1, 1, device=self._device, generator=self._generator)

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _fill(self) -> None:
        try:
            while True:
                slot, images, targets = self._workers.take()
                at = self.made % self._size
                block = self._bring(images, targets)
                with self._lock:
                    self._images[at : at + BLOCK].copy_(block[0])
                    self._targets[at : at + BLOCK].copy_(block[1])
                    self.made += BLOCK
                self._workers.give_back(slot)
        except BaseException as error:  # the trainer raises it
            self._error = error

    def _bring(self, images: np.ndarray, targets: np.ndarray) -> tuple[Tensor, Tensor]:
        """The block on the device; on a stream of its own, for on the trainer's it would wait for whole steps."""
        if self._stream is None:
            return torch.from_numpy(images), torch.from_numpy(targets)
        with torch.cuda.stream(self._stream):
            brought = torch.from_numpy(images).to(self._device), torch.from_numpy(targets).to(self._device)
        self._stream.synchronize()
        for tensor in brought:
            tensor.record_stream(torch.cuda.current_stream())
        return brought
