"""What the Snakefile knows before anything runs."""

from types import SimpleNamespace

import pytest
from PIL import Image

from data.errors import DatasetError, EigenshapeError, SettingError
from eigen import ExtractorSpec
from pipeline import requests
from pipeline.plan import Plan
from tests.pictures import scene


def wildcards(dataset, shard=None):
    return SimpleNamespace(dataset=dataset, shard=shard)


@pytest.fixture
def folder(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(5):
        Image.fromarray(scene(32, 48)).save(photos / f"photo{number}.png")
    return photos


def test_a_misspelt_key_is_refused():
    with pytest.raises(SettingError, match="'shardsize'"):
        Plan({"shardsize": 3})


def test_photos_are_dealt_to_shards(folder):
    assert Plan({"folder": str(folder), "shard_size": 2}).shards("folder") == [
        "00000",
        "00001",
        "00002",
    ]


def test_a_target_names_the_shards_so_that_a_deleted_one_is_made_again(folder):
    plan = Plan({"folder": str(folder), "shard_size": 3, "results_root": "r"})
    files = plan.targets("folder")(wildcards("folder"))
    assert {"r/folder/eigenvectors/shard-00000.h5", "r/folder/eigenvectors/shard-00001.h5"} <= set(
        files
    )
    assert "r/folder/report.html" in files


def test_a_new_photo_changes_the_requests_of_the_shards_it_touches_only(folder, tmp_path):
    def digests():
        plan = Plan({"folder": str(folder), "shard_size": 3, "results_root": str(tmp_path / "r")})
        files = [plan.request("manifest")(wildcards("folder"))]
        files += [plan.request("shard")(wildcards("folder", n)) for n in ("00000", "00001")]
        return [requests.read(file).digest for file in files]

    before = digests()
    assert digests() == before
    Image.fromarray(scene(32, 48)).save(folder / "photo9.png")
    whole, first, second = (one == other for one, other in zip(before, digests(), strict=True))
    assert (whole, first, second) == (False, True, False)


def test_a_short_target_is_of_the_folder_or_of_all_data_sets_present(folder, tmp_path):
    plan = Plan({"folder": str(folder), "results_root": "r"})
    assert plan.discovered("names")(wildcards("")) == ["r/folder/names/names.json"]
    plan = Plan({"datasets_root": str(tmp_path / "none"), "results_root": "r"})
    assert plan.discovered("objects")(wildcards("")) == [
        "r/world/objects.json",
        "r/samples/objects.json",
    ]
    with pytest.raises(EigenshapeError, match="absent"):
        Plan({"folder": str(tmp_path / "absent")}).check(["--cores", "1", "clusters"])


def test_a_changed_k_bears_on_solving_and_masks_but_not_on_features():
    one, other = Plan({"path": "staged"}), Plan({"path": "staged", "k": 7})
    changed = {
        stage
        for stage in ("photos", "manifest", "features", "laplacian", "eigenvectors", "masks")
        if one.options(stage)(wildcards("pascal")) != other.options(stage)(wildcards("pascal"))
    }
    assert changed == {"eigenvectors", "masks"}


def test_the_demo_needs_no_weights():
    plan = Plan({})
    assert "--extractor lowlevel" in plan.options("fused")(wildcards("world"))
    assert "--extractor" not in plan.options("fused")(wildcards("pascal"))


def test_without_any_tree_the_default_target_is_the_demo(tmp_path):
    assert Plan({"datasets_root": str(tmp_path)}).present() == ["world", "samples"]


def test_a_missing_tree_is_told_without_a_long_traceback(tmp_path):
    plan = Plan({"datasets_root": str(tmp_path)})
    with pytest.raises(DatasetError, match="VOC2012") as raised:
        plan.targets("pascal")(wildcards("pascal"))
    assert len(raised.traceback) <= 2


def test_jobs_without_a_network_ask_for_no_gpu():
    """By what the extractor can do, whatever it is called, and which one the data set has."""

    def gpus(settings, dataset="pascal"):
        return Plan(settings).gpus(wildcards(dataset))

    assert gpus({"extractor": "lowlevel", "device": "cuda"}) == 0
    assert gpus({"device": "cpu"}) == 0
    assert gpus({"device": "cuda:1"}) == 1
    assert gpus({"device": "cuda"}, "world") == 0  # lowlevel8
    assert gpus({"device": "cuda", "demo_extractor": "dino_vits8"}, "world") == 1
    mixed = {"extractor": "lowlevel", "demo_extractor": "dino_vits8", "device": "cuda"}
    assert (gpus(mixed), gpus(mixed, "samples")) == (0, 1)
    assert Plan({"extractor": "lowlevel", "device": "cuda"}).training_gpus() == 1


def test_the_demo_takes_the_settings_that_its_extractor_has_a_use_for():
    settings = {"weights": "random:1", "facet": "query"}
    assert Plan(settings).config_for("world").extractor == ExtractorSpec(name="lowlevel8")
    own = Plan({**settings, "demo_extractor": "dino_vits8"}).config_for("world").extractor
    assert (own.name, own.weights, own.facet) == ("dino_vits8", "random:1", "query")


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"weights": "absent.pth"}, "absent.pth: no such file"),
        ({"extractor": "dinov3_vits16"}, "cannot be fetched by name"),
        ({"weights": "random:x"}, "random:SEED"),
    ],
)
def test_an_extractor_that_cannot_be_made_is_found_while_planning(settings, named):
    plan = Plan(settings)
    for ask in (plan.targets("pascal"), plan.options("fused"), plan.options("features")):
        with pytest.raises(EigenshapeError, match=named):
            ask(wildcards("pascal"))
    assert plan.options("masks")(wildcards("pascal")) == ""
    assert "lowlevel8" in plan.options("fused")(wildcards("world"))


@pytest.mark.parametrize("key", ["extractor", "demo_extractor"])
@pytest.mark.parametrize("name", ["dino_vits61", "timm:vit_smal_patch16_224"])
def test_a_misspelt_extractor_is_found_while_planning(key, name):
    with pytest.raises(SettingError, match="did you mean"):
        Plan({key: name})


@pytest.mark.parametrize("words", [["folder"], ["--cores", "1", "folder"], ["-n", "pascal_k5"]])
def test_a_target_without_images_is_found_before_the_plan(tmp_path, words):
    plan = Plan({"datasets_root": str(tmp_path)})
    with pytest.raises(EigenshapeError, match=r"folder=PATH|VOC2012/JPEGImages"):
        plan.check(words)
    plan.check(["--directory", "folder", "all", "demo"])


@pytest.mark.parametrize(
    ("cores", "size", "threads"),
    [(8, 200, [8]), (8, 4, [3, 3, 2]), (8, 1, [1] * 12), (2, 6, [1, 1]), (1, 12, [1])],
)
def test_the_cores_of_a_run_are_used_whatever_the_number_of_shards(tmp_path, cores, size, threads):
    for number in range(12):
        (tmp_path / f"{number:02d}.jpg").touch()
    settings = {"folder": str(tmp_path), "shard_size": size, "extractor": "lowlevel8"}
    plan = Plan(settings, claims=True, cores=cores)
    shards = plan.shards("folder")
    jobs = [SimpleNamespace(dataset="folder", shard=shard) for shard in shards]
    assert [plan.threads(job) for job in jobs] == threads
    assert sum(threads) >= cores
    # A job of a cluster has been given its cores; how many shards there are changes nothing.
    assert Plan(settings, cores=3).threads(jobs[0]) == 3


@pytest.mark.parametrize("inside", ["", "results", "deep/er"])
def test_results_among_the_images_are_refused(folder, inside):
    plan = Plan({"folder": f"{folder}/", "results_root": f"{folder}//{inside}"})
    with pytest.raises(SettingError, match="where masks would be taken for images"):
        plan.shards("folder")


def test_a_path_has_one_spelling(folder):
    settings = [{"folder": f"{folder}{end}", "results_root": f"a{end}"} for end in ("", "/", "//.")]
    assert len({(c.folder, c.results_root) for c in (Plan(one).config for one in settings)}) == 1
    assert "~" not in Plan({"folder": "~/photos"}).config.folder
