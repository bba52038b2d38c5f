"""Which photos stay out of training, so that what is chosen on them predicts photos that nobody has seen.

Thirty validation photos, most of them with a training photo next to them in the same series of shots, said .825 where
200 photos never used in development said .715. So (a) 90 of the 300 photos of MSRA-TD500 are held out in blocks of
neighbouring file numbers, and what lies near a block is used for nothing; and (b) whole sources of unlabelled photos
are, on which the network is compared with its teacher.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from detector.evaluation.annotations import Sample, has_split, read_split

BLOCKS, SHARE = 5, 0.3
"""Blocks of file numbers, and the share of all photos in them: 5 times 18 of MSRA-TD500's 300."""

NEAR = 5
"""File numbers: photos that lie closer to a held-out one are not trained on either, for they often show the same."""

SOURCES = frozenset(
    {
        "AdvancedEAST",
        "AdvancedLiterateMachinery",
        "CHINESE-OCR",
        "Chinese-license-plate-detect",
        "EAST-ICPR",
        "ICPR2018-Text-Object-Detecti",
        "SVT",
        "SimpleAICV-pytorch-training",
        "UrText",
        "cognitive-services-sample-da",
        "newbee-mall",
        "scene-text",
        "sxsxuGY",
    }
)
"""301 photos of `scenes`: 156 street views, the rest signs, posters, goods for sale, plates and cards."""

TWINS = frozenset({"mtwi_01", "mtwi_02", "mtwi_03"})
"""Training images that are also held-out photos (of EAST-ICPR), found by perceptual hashes: not trained on."""


def source_of(image: Path) -> str:
    """Where an unlabelled photo comes from: SOURCE_0012.webp."""
    return image.stem.rpartition("_")[0]


def is_held_out(image: Path) -> bool:
    """Whether a photo's whole source is kept for the agreement with the teacher, or it is a copy of one that is."""
    return source_of(image) in SOURCES or image.stem in TWINS


def file_number(image: Path, default: int) -> int:
    """The digits at the end of a file's name."""
    found = re.search(r"(\d+)$", image.stem)
    return int(found[1]) if found else default


def blocks(numbers: Sequence[int]) -> set[int]:
    """The held-out ones of sorted file numbers: BLOCKS blocks of neighbours, spread evenly."""
    size = round(len(numbers) * SHARE / BLOCKS)
    held: set[int] = set()
    for block in range(BLOCKS if size else 0):
        start = round((block + 0.5) * len(numbers) / BLOCKS - size / 2)
        held.update(numbers[start : start + size])
    return held


def split_series(folder: Path) -> tuple[list[Sample], list[Sample], list[list[Sample]]]:
    """Divides a set whose file numbers are the order in which its photos were taken.

    Args:
        folder: with a train and perhaps a val split, which are taken together.

    Returns:
        What may be trained on (of the train split), what is held out, and the latter by blocks.
    """
    train = read_split(folder, "train")
    everything = train + (read_split(folder, "val") if has_split(folder, "val") else [])
    number = {sample.image: file_number(sample.image, rank) for rank, sample in enumerate(everything)}
    ordered = sorted(everything, key=lambda sample: number[sample.image])
    held = blocks([number[sample.image] for sample in ordered])
    kept = [s for s in train if all(abs(number[s.image] - other) > NEAR for other in held)]
    out = [sample for sample in ordered if number[sample.image] in held]
    size = -(-len(out) // BLOCKS) or 1
    return kept, out, [out[i : i + size] for i in range(0, len(out), size)]
