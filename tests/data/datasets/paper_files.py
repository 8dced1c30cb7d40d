"""Small datasets in the official layouts of those of the papers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

SYNSETS = ("n01440764", "n01443537", "n01484850")


def write_image(path: Path, label: int, side: int = 16) -> None:
    """Write a JPEG whose brightness tells the label."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((side, side + 4, 3), 20 + 15 * label, dtype=np.uint8)
    Image.fromarray(pixels).save(path, quality=95)


def label_of_brightness(brightness: float) -> int:
    return round((brightness - 20) / 15)


def write_lines(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def write_webvision(root: Path, per_class: int = 8) -> Path:
    """Write three classes; the last one has the number 700 of 1,000."""
    train = [(f"google/q{label:04d}/{n}.jpg", label) for label in (0, 1, 2, 700) for n in range(per_class)]
    test = [(f"val{10 * label + n:06d}.jpg", label) for label in (0, 1, 2, 700) for n in range(2)]
    for name, label in train:
        write_image(root / name, label % 10)
    for name, label in test:
        write_image(root / "val_images_256" / name, label % 10)
    write_lines(root / "info/train_filelist_google.txt", (f"{name} {label}" for name, label in train))
    write_lines(root / "info/val_filelist.txt", (f"{name} {label}" for name, label in test))
    words = ("tench, Tinca tinca", "goldfish, Carassius auratus", "great white shark, white shark")
    write_lines(root / "info/synsets.txt", (f"{synset} {word}" for synset, word in zip(SYNSETS, words, strict=True)))
    return root


def write_ilsvrc_folders(root: Path) -> Path:
    for label, synset in enumerate(SYNSETS):
        for n in range(2):
            write_image(root / synset / f"ILSVRC2012_val_{10 * label + n:08d}.JPEG", label)
    return root


def write_ilsvrc_published(root: Path) -> Path:
    """Write six images and the kit, in which classes have other numbers than in the order of their synsets."""
    numbers = {"n01484850": 1, "n01440764": 2, "n01443537": 3, "n09999999": 4}
    of_images = ["n01443537", "n09999999", "n01440764", "n01484850", "n01440764", "n01443537"]
    for position, synset in enumerate(of_images, 1):
        label = SYNSETS.index(synset) if synset in SYNSETS else 9
        write_image(root / f"ILSVRC2012_img_val/ILSVRC2012_val_{position:08d}.JPEG", label)
    data = root / "ILSVRC2012_devkit_t12/data"
    write_lines(data / "ILSVRC2012_validation_ground_truth.txt", (str(numbers[synset]) for synset in of_images))
    dtype = [("ILSVRC2012_ID", object), ("WNID", object), ("words", object), ("num_children", object)]
    synsets = np.array([(number, synset, "words", 0) for synset, number in numbers.items()], dtype=dtype)
    savemat(data / "meta.mat", {"synsets": synsets.reshape(-1, 1)})
    return root


def clothing_name(position: int) -> str:
    return f"images/{position % 10}/{position % 7:02d}/{position},{3 * position}.jpg"


def write_clothing1m(root: Path, lists: str = ".") -> Path:
    """Write 56 noisy, 28 clean training, 14 validation and 14 test images; the clean ones have both labels in part."""
    noisy = {clothing_name(n): (n % 14 + (n % 4 == 0)) % 14 for n in range(56)}
    clean = {clothing_name(n): n % 14 for n in range(100, 156)}
    both = {clothing_name(n): (n % 14 + (n % 3 == 0)) % 14 for n in (*range(100, 128), *range(142, 156))}
    for position in (*range(56), *range(100, 156)):
        write_image(root / clothing_name(position), position % 14)
    keys = list(clean)
    write_lines(root / lists / "noisy_train_key_list.txt", noisy)
    for name, part in (("train", keys[:28]), ("val", keys[28:42]), ("test", keys[42:])):
        write_lines(root / lists / f"clean_{name}_key_list.txt", part)
    write_lines(root / lists / "noisy_label_kv.txt", (f"{name} {label}" for name, label in (noisy | both).items()))
    write_lines(root / lists / "clean_label_kv.txt", (f"{name} {label}" for name, label in clean.items()))
    return root


def write_animal10n(root: Path, per_class: int = 4) -> Path:
    for folder, count in (("training", per_class), ("testing", 1)):
        for label in range(10):
            for n in range(count):
                write_image(root / folder / f"{label}_{1000 * label + n}.jpg", label, side=64)
    return root


def write_imdb(root: Path, per_class: int = 10) -> Path:
    words = {"pos": "a great film and great fun", "neg": "a bad film,<br /><br />and BAD it wasn't fun"}
    for part in ("train", "test"):
        for name, text in words.items():
            for n in range(per_class):
                write_lines(root / part / name / f"{n}_7.txt", [text])
    return root
