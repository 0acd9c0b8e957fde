"""Proves what clients and probes are told while the folder of pictures is away, and after."""

from collections.abc import Callable
from pathlib import Path

from tests.support.pictures import jpeg
from tests.support.services import Service, assert_problem, get, wait_until


def test_a_folder_that_is_away_is_told_and_nothing_is_lost_or_left_when_it_is_back(
    start_service: Callable[..., Service], tmp_path: Path
) -> None:
    """As a disk that is unmounted while the service runs, with its empty mount point left."""
    data_dir = tmp_path / "data"
    service = start_service(STORAGE="local", DATA_DIR=data_dir, REAPER_INTERVAL_SECONDS=0.1)
    alice = service.register()
    shown = service.patch_picture(alice, jpeg()).json()["image_path"]
    media = data_dir / "media"
    away = data_dir / "away"
    media.rename(away)
    media.mkdir()
    assert_problem(service.patch_picture(alice, jpeg(320, 320)), 503, "wrong_store")
    assert_problem(get(f"{service.url}/health/ready"), 503, "wrong_store")
    assert_problem(service.get_picture(shown), 503, "wrong_store")
    with service.client(alice) as client:
        assert client.delete(f"/users/{alice.id}/picture").status_code == 200
    assert list(media.iterdir()) == [], "what is not the store was written to"
    media.rmdir()
    away.rename(media)
    assert get(f"{service.url}/health/ready").status_code == 200
    assert service.patch_picture(alice, jpeg()).status_code == 200
    # What expires or waits is deleted in the right place, now that it is there.
    service.sql("UPDATE stored_files SET next_attempt_at = now() WHERE state <> 'live'")
    wait_until(lambda: len(service.objects()) == 1, "nothing is left but the picture")
    assert "is not the one that the database knows" in service.log()
