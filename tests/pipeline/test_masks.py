"""Stage `masks`: which masks are overwritten, written again, or removed."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from data.errors import RunError, ShardError
from data.png import mask_origin, write_mask
from data.sealed import read_table
from pipeline import manifest, mask_files
from pipeline.identity import answering, stage_request
from pipeline.plan import Plan
from pipeline.stages import masks
from tests.pictures import scene
from tests.pipeline.test_stages import Run


class MaskRun(Run):
    """A run whose masks go to a folder that others may use too."""

    def __init__(self, photos, root, folder, **settings):
        super().__init__(photos, root, **settings)
        self.folder = folder

    def masks(self, **more):
        masks.run(
            self.path("shard", "eigenvectors", 0),
            _paths(self),
            0,
            self.folder,
            self.path("mask_list", 0),
            self.config,
            **more,
        )


def _paths(run):
    return {entry.id: entry.path for entry in manifest.read(run.path("manifest"))}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number in range(3):
        Image.fromarray(scene(80, 96 + 16 * number, number)).save(folder / f"photo{number}.png")
    return folder


@pytest.fixture
def made(photos, tmp_path):
    run = MaskRun(photos, tmp_path / "one", tmp_path / "shared")
    run.make()
    run.masks()
    return run


def test_masks_state_their_origin(made, photos):
    import hashlib

    for id in ("photo0", "photo1", "photo2"):
        content = hashlib.sha256((photos / f"{id}.png").read_bytes()).hexdigest()
        origins = [mask_origin(made.folder / f"{id}_k{k}.png") for k in range(5)]
        assert [origin["vector"] for origin in origins] == list(range(5))
        assert {origin["image"] for origin in origins} == {content}
        assert {origin["shard"] for origin in origins} == {"shard-00000.h5"}
        assert len({origin["run"] for origin in origins}) == 1
    rows = read_table(made.path("mask_list", 0), mask_files.COLUMNS, RunError)
    assert [row["id"] for row in rows] == ["photo0", "photo1", "photo2"]
    assert rows[0]["run"] == origins[0]["run"]


def test_the_same_bytes_with_several_workers(made):
    before = {path.name: path.read_bytes() for path in made.folder.iterdir()}
    made.masks(workers=2)
    assert {path.name: path.read_bytes() for path in made.folder.iterdir()} == before


@pytest.mark.parametrize("settings", [{"neighbours": 20}, {"mask_method": "otsu"}])
def test_masks_of_another_run_are_overwritten_only_on_demand(made, photos, tmp_path, settings):
    before = (made.folder / "photo0_k1.png").read_bytes()
    other = MaskRun(photos, tmp_path / "two", made.folder, **settings)
    other.make()
    with pytest.raises(RunError, match=r"shared: 15 masks .*photo0_k0.png, by the run .*overwrite"):
        other.masks()
    assert (made.folder / "photo0_k1.png").read_bytes() == before
    told = MaskRun(photos, tmp_path / "two", made.folder, overwrite_masks=True, **settings)
    told.masks()
    assert mask_origin(made.folder / "photo0_k1.png")["run"] != mask_origin_of(before, tmp_path)
    with pytest.raises(RunError, match="by the run"):
        made.masks()


def mask_origin_of(content, tmp_path):
    (tmp_path / "x.png").write_bytes(content)
    return mask_origin(tmp_path / "x.png")["run"]


def test_masks_of_this_folder_with_other_settings_are_overwritten(made, photos):
    again = MaskRun(photos, made.layout.results_root, made.folder, mask_method="otsu")
    before = mask_origin(made.folder / "photo0_k1.png")["run"]
    again.masks()
    assert mask_origin(made.folder / "photo0_k1.png")["run"] != before


def test_the_same_settings_from_another_results_folder_agree(made, photos, tmp_path):
    other = MaskRun(photos, tmp_path / "two", made.folder)
    other.make()
    other.masks()


def test_masks_of_the_user_stay(photos, tmp_path):
    run = MaskRun(photos, tmp_path / "one", tmp_path / "shared")
    run.make()
    run.folder.mkdir()
    Image.fromarray(np.zeros((80, 96), np.uint8)).save(run.folder / "photo1_k0.png")
    with pytest.raises(RunError, match=r"1 masks .*photo1_k0.png, by another program"):
        run.masks()
    assert [path.name for path in run.folder.iterdir()] == ["photo1_k0.png"]


def test_masks_of_removed_images_are_removed_and_others_stay(made):
    lists = made.path("mask_list", 0).parent
    write_mask(made.folder / "stranger_k0.png", np.ones((4, 4), bool))
    mask_files.remove_gone(made.folder, lists, {"photo0", "photo2"})
    left = {path.name.rsplit("_", 1)[0] for path in made.folder.glob("*.png")}
    assert left == {"photo0", "photo2", "stranger"}


def test_a_missing_mask_makes_the_plan_write_its_shard_again(photos, tmp_path):
    run = Run(photos, tmp_path)
    run.make()
    folder = Path(run.layout.masks("folder"))
    about = (run.path("shard", "eigenvectors", 0), _paths(run), 0, folder)
    listed = run.path("mask_list", 0)
    settings = {"folder": str(photos), "results_root": str(tmp_path), "extractor": "lowlevel"}
    about_shard = SimpleNamespace(dataset="folder", shard="00000")

    def is_due():
        asked = Path(Plan(settings).request("masks")(about_shard))
        return asked.stat().st_mtime_ns > listed.stat().st_mtime_ns

    for damage in (
        lambda: (folder / "photo1_k3.png").unlink(),
        lambda: [path.unlink() for path in folder.iterdir()],
        lambda: listed.write_text("id\nphoto0\n"),
    ):
        with answering(stage_request("masks", run.config), run.layout, "folder", shard="00000"):
            masks.run(*about, listed, run.config)
        assert not is_due()
        damage()
        assert is_due()


def test_an_image_that_changed_does_not_guide_its_masks(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.fromarray(scene(80, 96, 0)).save(photos / "a.png")
    run = MaskRun(photos, tmp_path / "one", tmp_path / "shared", upsampling="guided")
    run.make()
    Image.fromarray(scene(80, 96, 1)).save(photos / "a.png")
    with pytest.raises(ShardError, match=r"a.png: changed since"):
        run.masks()
