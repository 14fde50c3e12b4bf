"""Stages on real files: each image comes out, or is quarantined with a reason."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from data.errors import DatasetError, RunError, ShardError
from data.pictures import read_image
from data.sealed import read_table
from eigen.store import shards
from pipeline import manifest, mask_files, workers
from pipeline.config import IDENTITY, STAGE_KEYS, resolve
from pipeline.layout import Layout
from pipeline.records import Record, read_all
from pipeline.stages import index, masks, report, shard
from pipeline.stages import manifest as listing
from tests.pictures import scene, write_broken, write_readable


class Run:
    """All stages over a folder of photos, as Snakemake runs them."""

    def __init__(self, photos, root, **settings):
        self.config = resolve(
            {"folder": str(photos), "results_root": str(root), "extractor": "lowlevel", **settings}
        )
        self.layout = Layout("unused", str(root), self.config.solve.k)
        staged = ("features", "laplacian", "eigenvectors")
        self.stages = staged if self.config.path == "staged" else ("fused",)

    def path(self, name, *more):
        from pathlib import Path

        return Path(getattr(self.layout, name)("folder", *more))

    def listing(self):
        self.list_with(self.config, self.path("manifest"))

    def list_with(self, config, output):
        listing.run("folder", listing.entries("folder", config, self.layout), self.layout, output)

    def make(self, *, workers=1):
        self.listing()
        numbers = {e.shard for e in manifest.read(self.path("manifest")) if e.shard is not None}
        for number in sorted(numbers):
            for stage in self.stages:
                self.stage(stage, number, workers)
        self.index()
        return shards.open(self.path("index").parent, verify=True)

    def stage(self, stage, number, workers=1):
        kind = "eigenvectors" if stage == "fused" else stage
        steps = self.stages[: self.stages.index(stage)]
        job = shard.Job(
            dataset="folder",
            shard=number,
            entries=listing.entries_of_shard("folder", self.config, self.layout, number),
            output=self.path("shard", kind, number),
            record=self.path("record", kind, number),
            earlier=[self.path("record", step, number) for step in steps],
            workers=workers,
        )
        before = {"laplacian": "features", "eigenvectors": "laplacian"}.get(stage)
        sources = [self.path("shard", before, number)] if before else []
        getattr(shard, stage)(job, self.config, *sources)

    def index(self):
        index.run(
            self.path("manifest"),
            lambda n: self.path("shard", "eigenvectors", n),
            lambda n: self.path("record", "eigenvectors", n),
            quarantine=self.path("quarantine"),
            provenance=self.path("provenance"),
            strict=self.config.strict,
        )

    def set_aside(self):
        return {row.id: row for row in index.read_quarantine(self.path("quarantine"))}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number in range(5):
        Image.fromarray(scene(80 + 16 * number, 112, number)).save(folder / f"photo{number}.jpg")
    return folder


def test_every_kind_of_image_is_read_or_quarantined_with_its_reason(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    good, bad = write_readable(folder), write_broken(folder)
    Image.fromarray(scene()).save(folder / "plain.png")  # a second file with one stem
    run = Run(folder, tmp_path / "results", shard_size=7)
    found, aside = run.make(), run.set_aside()
    assert set(found) == good
    assert set(aside) == bad | {"plain.png"}
    assert len(manifest.read(run.path("manifest"))) == len(found) + len(aside)
    assert all(row.reason for row in aside.values())
    assert "empty" in aside["empty"].reason
    assert "fewer" in aside["one pixel"].reason
    assert aside["plain.png"].stage == "manifest"
    for id in good:
        assert found[id].residual.max() <= run.config.solve.tolerance
    assert found["turned"].size == (128, 96)  # upright, as a viewer shows it


def test_masks_have_the_size_of_the_image_and_two_values(photos, tmp_path):
    run = Run(photos, tmp_path)
    found = run.make()
    folder = tmp_path / "masks"
    stale = folder / "photo0_k0.png"
    masks.run(
        run.path("shard", "eigenvectors", 0),
        {e.id: e.path for e in manifest.read(run.path("manifest"))},
        0,
        folder,
        run.path("mask_list", 0),
        run.config,
    )
    assert stale.exists()
    for id in found:
        size = read_image(photos / f"{id}.jpg").shape[:2]
        for k in range(5):
            mask = cv2.imread(str(folder / f"{id}_k{k}.png"), cv2.IMREAD_UNCHANGED)
            assert mask.shape == size
            assert set(np.unique(mask)) <= {0, 255}
    listed = read_table(run.path("mask_list", 0), mask_files.COLUMNS, RunError)
    assert [row["id"] for row in listed] == list(found)


def same(one, other):
    return list(one) == list(other) and all(
        getattr(one[id], name).tobytes() == getattr(other[id], name).tobytes()
        for id in one
        for name in ("vectors", "eigenvalues", "residual")
    )


@pytest.mark.parametrize(
    ("settings", "workers"),
    [
        ({"path": "staged"}, 1),
        ({"shard_size": 2}, 1),
        ({"shard_size": 3, "batch_size": 4}, 2),
        ({"path": "staged", "shard_size": 4}, 2),
    ],
)
def test_the_same_bytes_whatever_the_shards_workers_and_path(photos, tmp_path, settings, workers):
    graph = {"neighbours": 12, "colour": "knn", "colour_weight": 1.0} if workers == 2 else {}
    plain = Run(photos, tmp_path / "a", **graph).make()
    other = Run(photos, tmp_path / "b", **graph, **settings).make(workers=workers)
    assert same(plain, other)


def test_the_same_bytes_with_a_network(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(3):
        Image.fromarray(scene(64, 64, number)).save(photos / f"photo{number}.png")
    network = {"extractor": "dino_vits16", "weights": "random:1", "device": "cpu"}
    plain = Run(photos, tmp_path / "a", **network).make()
    other = Run(photos, tmp_path / "b", **network, batch_size=3, shard_size=2).make()
    assert same(plain, other)
    about = plain.shards[0].attributes()
    assert about["extractor"] == "dino_vits16"
    assert about["weights_sha256"] == "random:1"
    assert about["config"]["extractor"] == "dino_vits16"


def test_strict_fails_and_names_the_images(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(scene()).save(folder / "good.jpg")
    (folder / "bad.jpg").write_bytes(b"")
    with pytest.raises(RunError, match=r"found 1 .*bad: .*empty"):
        Run(folder, tmp_path / "results", strict=True).make()


def test_an_image_that_vanished_is_quarantined(photos, tmp_path):
    run = Run(photos, tmp_path)
    members = manifest.entries(listing.tree_for("folder", run.config, run.layout), 256)
    gone = manifest.Entry("gone", str(tmp_path / "gone.jpg"), 0)
    manifest.write(run.path("manifest"), [*members, gone])
    run.stage("fused", 0)
    run.index()
    assert "no such file" in run.set_aside()["gone"].reason


def test_lost_images_are_reported(photos, tmp_path):
    run = Run(photos, tmp_path)
    run.make()
    members = manifest.read(run.path("manifest"))
    manifest.write(run.path("manifest"), [*members, manifest.Entry("lost", "x.jpg", 0)])
    with pytest.raises(RunError, match=r"1 are lost \(lost\)"):
        run.index()
    manifest.write(run.path("manifest"), members[1:])
    with pytest.raises(RunError, match=r"1 are not in this manifest \(photo0\)"):
        run.index()


def test_shards_of_a_run_that_was_dealt_otherwise_are_removed(photos, tmp_path):
    Run(photos, tmp_path, shard_size=1).make()
    found = Run(photos, tmp_path, shard_size=3).make()
    assert len(found) == 5
    assert len(list((tmp_path / "folder" / "eigenvectors").glob("*.h5"))) == 2


def test_provenance_is_stored_next_to_the_result(photos, tmp_path):
    run = Run(photos, tmp_path, k=4)
    run.make()
    (made,) = index.read_provenance(run.path("provenance"))
    assert made["config"] == run.config.flat(*IDENTITY["fused"])
    assert {"eigenshape", "numpy", "scipy", "python"} <= set(made["software"])


def test_staged_jobs_store_the_settings_that_really_ran(photos, tmp_path):
    """Each job is told its own keys only, as by Snakemake."""
    settings = {"k": 4, "colour": "knn", "colour_weight": 2.0, "extractor": "lowlevel8"}
    run = Run(photos, tmp_path, path="staged", **settings)
    whole = run.config

    def of_stage(stage):
        keys = set(STAGE_KEYS[stage]) - {"results_root"}
        return resolve(whole.flat(*keys))

    folder = tmp_path / "job"
    listed = Path(run.layout.manifest("folder"))
    run.list_with(whole, listed)

    def job(stage):
        places = (folder / f"{stage}.h5", folder / f"{stage}.json")
        return shard.Job("folder", 0, manifest.read(listed), *places)

    shard.features(job("features"), of_stage("features"))
    shard.laplacian(job("laplacian"), of_stage("laplacian"), folder / "features.h5")
    shard.eigenvectors(job("eigenvectors"), of_stage("eigenvectors"), folder / "laplacian.h5")
    stored = dict(shards.Shard(folder / "eigenvectors.h5").attributes())
    assert stored["config"] == whole.flat(*IDENTITY["fused"])
    (record,) = read_all([folder / "eigenvectors.json"])
    assert record.provenance["config"] == stored["config"]


def copied(photos, folder):
    """A copy of the photos, and one that is empty."""
    folder.mkdir()
    for path in photos.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "bad.jpg").write_bytes(b"")
    return folder


def reported(run):
    """The page of a run's report."""
    report.run(
        "folder",
        manifest.read(run.path("manifest")),
        run.path("index").parent,
        read_all([run.path("record", "eigenvectors", 0)]),
        run.path("quarantine"),
        run.path("provenance"),
        run.path("report").parent / "masks",
        run.path("report"),
        run.config,
    )
    return run.path("report").read_text()


def test_the_report_shows_every_image_and_the_quarantine(photos, tmp_path):
    run = Run(copied(photos, tmp_path / "photos"), tmp_path / "results")
    run.make()
    page = reported(run)
    for name in ("photo0", "photo4", "bad", "lanczos", "lowlevel"):
        assert name in page
    assert "The image is not shown" not in page


@pytest.mark.parametrize("upsampling", ["bilinear", "guided"])
def test_images_that_vanished_or_changed_have_a_note_in_the_report(photos, tmp_path, upsampling):
    folder = copied(photos, tmp_path / "photos")
    run = Run(folder, tmp_path / "results", upsampling=upsampling)
    run.make()
    whole = reported(run)
    (folder / "photo0.jpg").unlink()
    (folder / "photo1.jpg").write_bytes((folder / "photo2.jpg").read_bytes())
    with Image.open(folder / "photo3.jpg") as image:
        image.rotate(180).save(folder / "photo3.jpg")  # of the same size
    (folder / "photo4.jpg").write_bytes(b"")
    page = reported(run)
    assert f"{folder}/photo0.jpg: no such file" in page
    for name in ("photo1", "photo3"):
        assert f"{folder}/{name}.jpg changed after its eigenvectors were computed" in page
    assert "photo4.jpg: the file is empty" in page
    assert page.count("The image is not shown") == 4
    assert page.count('alt="eigenvector') == whole.count('alt="eigenvector')
    assert page.count('alt="image') == 1


def test_an_unreadable_features_file_ends_the_run_and_is_named(photos, tmp_path):
    run = Run(photos, tmp_path, path="staged")
    run.listing()
    run.stage("features", 0)
    features = run.path("shard", "features", 0)
    features.write_bytes(features.read_bytes()[:-100])
    with pytest.raises(ShardError, match=str(features)):
        run.stage("laplacian", 0)


def test_a_worker_that_outlives_a_run_reads_the_files_of_the_next(photos, tmp_path):
    """As the workers of a dask cluster do: everything here happens in one process."""
    for extractor in ("lowlevel", "lowlevel8"):
        staged = Run(photos, tmp_path / "staged", path="staged", extractor=extractor)
        fused = Run(photos, tmp_path / extractor, extractor=extractor)
        with staged.make() as found, fused.make() as expected:
            for id, pairs in expected.items():
                np.testing.assert_array_equal(found[id].vectors, pairs.vectors)


def test_a_result_that_cannot_be_written_is_named(photos, tmp_path):
    run = Run(photos, tmp_path / "results")
    run.listing()
    (tmp_path / "results" / "folder" / "eigenvectors").write_text("a file where a folder belongs")
    with pytest.raises(OSError, match=r"cannot write .*shard-00000.h5"):
        run.stage("fused", 0)


def test_workers_are_not_left_behind(photos, tmp_path):
    import multiprocessing

    Run(photos, tmp_path).make(workers=2)
    assert multiprocessing.active_children() == []
    assert workers.AHEAD > 0


def test_a_quarantined_image_that_was_moved_is_named_where_it_is():
    images = {"a": {"path": "old/a.png", "size": 1, "mtime_ns": 1, "sha256": None}}
    reason = {"a": {"stage": "fused", "reason": "old/a.png: the file is empty (0 bytes)"}}
    record = Record("fused", quarantine=reason, images=images)
    (row,) = index.quarantined([manifest.Entry("a", "new/a.png", 0)], [record])
    assert (row.stage, row.reason) == ("fused", "new/a.png: the file is empty (0 bytes)")


@pytest.mark.parametrize("k", [2, 9])
def test_masks_of_another_number_of_eigenpairs_are_refused(photos, tmp_path, k):
    run = Run(photos, tmp_path, k=3)
    run.make()
    other = run.config.model_copy(update={"solve": run.config.solve.model_copy(update={"k": k})})
    source, listed = run.path("shard", "eigenvectors", 0), run.path("mask_list", 0)
    paths = {entry.id: entry.path for entry in manifest.read(run.path("manifest"))}
    with pytest.raises(RunError, match=rf"shard-00000.h5: expected k = {k} .* found 3"):
        masks.run(source, paths, 0, tmp_path / "masks", listed, other)


def test_a_shard_that_no_image_is_dealt_to_is_refused(photos, tmp_path):
    run = Run(photos, tmp_path)
    run.listing()
    with pytest.raises(DatasetError, match=r"manifest.csv: lists no image of shard 7"):
        run.stage("fused", 7)
