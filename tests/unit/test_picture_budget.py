"""Proves how much memory is set aside for decoding where nobody set it."""

from pathlib import Path

import pytest

from config import MIB, Settings
from pictures import decoding
from pictures.budget import choose_budget_bytes, find_memory_bytes, read_cgroup_limits
from pictures.costs import count_dearest_bytes, examine
from pictures.pool import DecoderPool
from tests.support.pictures import png_chunk

GIB = 1024 * MIB
DEAREST_BYTES = 500 * MIB


def make_tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, errors="surrogateescape")
    return root


@pytest.mark.parametrize(
    ("memory_bytes", "cores", "workers", "budget_bytes"),
    [
        # Enough for every core ...
        (64 * GIB, 1, 1, 500 * MIB),
        (64 * GIB, 8, 1, 4000 * MIB),
        (2 * GIB, 2, 1, 1000 * MIB),
        # ... or half of what there is, for all processes together.
        (1 * GIB, 2, 1, 512 * MIB),
        (2 * GIB, 2, 2, 512 * MIB),
        (256 * MIB, 4, 1, 128 * MIB),
        (1, 1, 1, 1),
    ],
)
def test_each_core_has_the_dearest_picture_but_all_no_more_than_half_of_the_memory(
    memory_bytes: int, cores: int, workers: int, budget_bytes: int
) -> None:
    assert choose_budget_bytes(memory_bytes, cores, workers, DEAREST_BYTES) == budget_bytes


@pytest.mark.parametrize("cores", [1, 2, 4, 64])
def test_with_a_gibibyte_for_each_core_and_the_default_limits_no_core_waits(cores: int) -> None:
    settings = Settings(_env_file=None)
    assert settings.decode_budget_bytes is None
    dearest_bytes = count_dearest_bytes(
        settings.max_whole_image_pixels, settings.max_upload_size_bytes
    )
    assert choose_budget_bytes(cores * GIB, cores, 1, dearest_bytes) == cores * dearest_bytes


def test_nothing_is_dearer_than_the_dearest() -> None:
    """A HEIC of just so many pixels, in a file of just so many bytes."""
    side_px = 1000
    boxes = b""
    for kind in (b"ispe", b"ipco", b"iprp", b"meta"):
        inside = bytes(4) + side_px.to_bytes(4, "big") * 2 if kind == b"ispe" else boxes
        version = bytes(4) if kind == b"meta" else b""
        boxes = (8 + len(version + inside)).to_bytes(4, "big") + kind + version + inside
    heic = b"\0\0\0\x10ftypheic\0\0\0\0" + boxes
    _, cost = examine(heic)
    assert cost.memory_bytes == count_dearest_bytes(side_px**2, len(heic))
    head = side_px.to_bytes(4, "big") * 2 + bytes((8, 6, 0, 0, 0))
    png = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", head)
    assert examine(png)[1].memory_bytes < count_dearest_bytes(side_px**2, len(png))


@pytest.mark.parametrize(
    ("files", "limits"),
    [
        # Version 2, in a container, which sees itself as the uppermost.
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "2147483648\n"}, [2 * GIB]),
        # The limit of a group holds for those below it.
        (
            {
                "proc/self/cgroup": "0::/system.slice/darkroom.service\n",
                "sys/fs/cgroup/system.slice/darkroom.service/memory.max": "max\n",
                "sys/fs/cgroup/system.slice/memory.max": "1073741824\n",
            },
            [GIB],
        ),
        # Version 1, where the container does not see the host's path.
        (
            {
                "proc/self/cgroup": "9:cpu,cpuacct:/docker/1f\n4:memory:/docker/1f\n0::/x\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "536870912\n",
            },
            [GIB // 2],
        ),
        ({"proc/self/cgroup": "0::/\n"}, []),
        # What no limit is, and no line.
        *(
            ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": text}, [])
            for text in ("", "0", "-1", "max\n", "\udcff")
        ),
        ({"proc/self/cgroup": "\nnonsense\n:\n"}, []),
        ({}, []),
    ],
)
def test_the_limits_of_a_container_are_found(
    files: dict[str, str], limits: list[int], tmp_path: Path
) -> None:
    assert read_cgroup_limits(make_tree(tmp_path, files)) == limits


def test_the_memory_is_the_least_of_the_machines_and_the_limits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pictures.budget.read_cgroup_limits", lambda _: [])
    machine_bytes = find_memory_bytes()
    assert machine_bytes > 100 * MIB
    monkeypatch.setattr("pictures.budget.read_cgroup_limits", lambda _: [GIB, 64 * MIB, 2**63])
    assert find_memory_bytes() == 64 * MIB


@pytest.mark.parametrize("budget_bytes", [1, 300 * MIB])
def test_a_number_that_is_set_wins(budget_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "find_memory_bytes", lambda: 900 * MIB)
    pool = DecoderPool()
    settings = Settings(_env_file=None, decode_budget_bytes=budget_bytes)
    assert decoding.Decoding(pool, settings)._slots._memory_bytes == budget_bytes
    derived = decoding.Decoding(pool, Settings(_env_file=None))._slots._memory_bytes
    assert derived == 450 * MIB, "half of the memory, which is less than one dearest picture"
