"""Processes that draw crops from pages held in memory, into slots of memory that the trainer shares with them.

Drawing a crop and its targets costs about 20 ms of a core, of which reading the page's file is 9: so all pages are
decoded once, before the processes are forked, and cost memory once (about 2 MB a page). Sixteen cores make 900 crops of
512 px a second; a step of ResNet-18 takes 1,060 on an H100.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import sys
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import Empty
from types import TracebackType
from typing import Any

import cv2
import numpy as np

from detector.errors import DetectorError, printable_lines
from detector.training.dataset import OpenPage, TrainingPage, draw_crop, open_training_page

BLOCK = 8  # crops a slot: a queue's message each 8 crops, not each
SLOTS = 4  # a process: it draws on while the trainer copies
LOOK_S = 1.0  # without a block, and one looks whether anybody is still drawing
Slot = tuple[int, np.ndarray, np.ndarray]


class CropWorkerError(DetectorError):
    """A process that draws crops died or raised; its traceback is on standard error."""


@dataclass(frozen=True, slots=True)
class HeldGroup:
    """Decoded pages that are drawn from alike.

    Attributes:
        weight: of the group.
        pages: uniformly chosen among.
    """

    weight: float
    pages: Sequence[OpenPage]


def hold(groups: Sequence[tuple[float, Sequence[TrainingPage]]], threads: int) -> list[HeldGroup]:
    """Decodes every page, ``threads`` at a time (decoders work outside the GIL).

    Raises:
        ImageError: a page cannot be opened.
    """
    with ThreadPoolExecutor(threads) as pool:
        return [HeldGroup(weight, list(pool.map(open_training_page, pages))) for weight, pages in groups]


class CropWorkers:
    """A context manager; inside it `take` brings blocks of crops, and `give_back` lets their slot be used again.

    Args:
        groups: see `hold`; made before, for the processes are forked.
        crop: side, pixels.
        workers: processes.
        seed: of the run; every process has a stream of its own.

    Attributes:
        processes: those that draw.
    """

    def __init__(self, groups: Sequence[HeldGroup], crop: int, workers: int, seed: int) -> None:
        self._context = multiprocessing.get_context("fork")
        self._free = [self._context.SimpleQueue() for _ in range(workers)]
        self._ready: Any = self._context.Queue()
        pixels, targets = BLOCK * crop * crop * 3, BLOCK * crop * crop * 4
        memory = mmap.mmap(-1, workers * SLOTS * (pixels + targets))  # anonymous and shared: it ends with the processes
        self.cells = np.frombuffer(memory, np.uint8).reshape(workers * SLOTS, pixels + targets)
        self._shapes = (BLOCK, crop, crop, 3), (BLOCK, 4, crop, crop)
        self._split = pixels
        self.processes = [
            self._context.Process(target=self._draw_for_ever, args=(groups, crop, rank, seed), daemon=True)
            for rank in range(workers)
        ]

    def __enter__(self) -> CropWorkers:
        for rank, process in enumerate(self.processes):
            process.start()
            for slot in range(SLOTS):
                self._free[rank].put(rank * SLOTS + slot)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for process in self.processes:
            process.kill()
            process.join()

    def take(self) -> Slot:
        """The next block: slot, (8, S, S, 3) uint8 RGB, (8, 4, S, S) uint8 targets in 255ths.

        Raises:
            CropWorkerError: there is none and will be none.
        """
        slot = None
        while any(process.is_alive() for process in self.processes):
            try:
                slot = self._ready.get(timeout=LOOK_S)
                break
            except Empty:
                continue
        if slot is None:
            raise CropWorkerError("a process that draws crops has failed or was killed")
        return slot, *self._views(slot)

    def give_back(self, slot: int) -> None:
        """The block has been copied: its slot may be overwritten."""
        self._free[slot // SLOTS].put(slot)

    def _views(self, slot: int) -> tuple[np.ndarray, np.ndarray]:
        cell = self.cells[slot]
        return cell[: self._split].reshape(self._shapes[0]), cell[self._split :].reshape(self._shapes[1])

    def _draw_for_ever(self, groups: Sequence[HeldGroup], crop: int, rank: int, seed: int) -> None:
        cv2.setNumThreads(1)
        weights = np.array([group.weight for group in groups])
        shares, rng = weights / weights.sum(), np.random.default_rng((seed, rank, os.getppid()))
        try:
            while True:
                slot = self._free[rank].get()
                images, targets = self._views(slot)
                for place in range(BLOCK):
                    pages = groups[rng.choice(len(groups), p=shares)].pages
                    images[place], drawn = draw_crop(pages[int(rng.integers(len(pages)))], crop, rng)
                    maps = (drawn.probability, drawn.weight, drawn.threshold, drawn.band)
                    for channel, values in enumerate(maps):
                        np.multiply(values, 255, out=targets[place, channel], casting="unsafe")
                self._ready.put(slot)
        except KeyboardInterrupt:  # the trainer, which got it too, ends us
            return
        except BaseException:
            sys.stderr.write(printable_lines(traceback.format_exc()))  # before the trainer hears of it, and ends us
            self._ready.put(None)
