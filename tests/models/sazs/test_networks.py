"""SAZS networks: published key layouts, golden outputs, and the specification's known answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from data.errors import SettingError, WeightsError
from eigen.extractors import extractor
from models.sazs import networks as sazs
from tests.models.known_answers import known_answer_tensor
from tests.parity import drn as drn_family
from tests.parity import sazs as sazs_family

GOLDEN = Path(__file__).parents[2] / "golden"

# Shape; mean; std; max abs; channels 0, 1, 2 at (0, 0); last channel at the last pixel.
# Then for the edge logits: mean; std; first three of row 0; last.
KNOWN = {
    ("vitl16_384", 64, 96): (
        (512, 8, 12), 0.0312167, 1.21435, 5.1051, (-0.859123, -1.808661, 1.136637), -2.468639,
        0.793379, 0.97145, (-0.088533, 1.716667, -0.127394), 1.43432,
    ),
    ("vitl16_384", 48, 32): (
        (512, 6, 4), 0.02816, 1.37751, 5.20452, (-1.207941, -1.946315, 1.877101), -0.666495,
        0.961184, 0.554355, (0.908991, 0.715880, 0.933578), 1.42008,
    ),
    ("drn_d_105", 64, 96): (
        (512, 8, 12), 0.184243, 0.276356, 2.15745, (0, 0.361686, 0), 0,
        0.886085, 0.200033, (0.559136, 0.677191, 0.657150), 0.432748,
    ),
    ("drn_d_105", 45, 70): (
        (512, 6, 9), 0.151369, 0.225646, 1.59024, (0, 0.187215, 0), 0,
        0.703682, 0.151492, (0.497389, 0.596254, 0.608255), 0.325081,
    ),
}  # fmt: skip


@pytest.mark.parametrize("arch", ["vitl16_384", "drn_d_105"])
def test_outputs_are_the_known_answers(arch):
    model = sazs.build(arch).eval()
    state = model.state_dict()
    for key, value in state.items():
        if value.is_floating_point():
            state[key] = known_answer_tensor(key, tuple(value.shape))
    model.load_state_dict(state)
    for (name, H, W), known in KNOWN.items():
        if name != arch:
            continue
        pixels = np.random.RandomState(7).standard_normal((1, 3, H, W))
        with torch.no_grad():
            edge, features = model(torch.from_numpy(pixels.astype(np.float32)))
        found_f, found_e = features[0].numpy(), edge[0, 0].numpy()
        shape, mean, std, largest, corner, last, e_mean, e_std, e_row, e_last = known
        assert found_f.shape == shape
        found = [found_f.mean(), found_f.std(ddof=1), np.abs(found_f).max()]
        assert found == pytest.approx([mean, std, largest], abs=1e-3)
        assert [*found_f[:3, 0, 0], found_f[-1, -1, -1]] == pytest.approx([*corner, last], abs=1e-3)
        found = [found_e.mean(), found_e.std(ddof=1), *found_e[0, :3], found_e[-1, -1]]
        assert found == pytest.approx([e_mean, e_std, *e_row, e_last], abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("family", [drn_family, sazs_family])
def test_goldens(family):
    results = list(family.cases(GOLDEN))
    assert len(results) >= 6
    assert [case for case in results if not case.passed] == []


def test_only_the_live_part_of_the_published_vit_receives_gradient():
    with torch.device("meta"):
        model = sazs.build("vitl16_384")
    trained = sum(p.numel() for p in model.parameters())
    assert trained == 156_206_593


def test_output_sizes_follow_the_stride():
    images = torch.zeros(2, 3, 77, 90)
    edge, features = sazs.build("drn_d_22").eval()(images)
    assert (edge.shape, features.shape) == ((2, 1, 10, 12), (2, 512, 10, 12))
    edge, features = sazs.build("vitti16_384").eval()(images)
    assert (edge.shape, features.shape) == ((2, 1, 8, 10), (2, 512, 8, 10))


def test_frozen_trunk_gets_no_gradient_and_stays_in_evaluation_mode():
    model = sazs.build("dino_vits16").train()
    edge, features = model(torch.rand(1, 3, 32, 48))
    (edge.sum() + features.sum()).backward()
    backbone = model.pretrained.model
    assert not backbone.training
    assert all(p.grad is None for p in backbone.parameters())
    assert model.pretrained.act_postprocess2["3"].weight.grad is not None


def test_unknown_architecture_names_the_known():
    with pytest.raises(SettingError, match=r"resnet50.*vitl16_384"):
        sazs.build("resnet50")


def test_drn_start_is_read_from_the_published_layout(tmp_path):
    model, donor = sazs.build("drn_d_22"), sazs.build("drn_d_22")
    published = {f"layer{key}": value for key, value in donor.base.state_dict().items()}
    torch.save(published | {"fc.weight": torch.zeros(1000, 512, 1, 1)}, tmp_path / "drn.pth")
    sazs.load_initial(model, "drn_d_22", tmp_path / "drn.pth")
    assert torch.equal(model.base[5][1].conv2.weight, donor.base[5][1].conv2.weight)
    torch.save({"layer0.0.weight": torch.zeros(16, 3, 7, 7)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"not the ImageNet start of drn_d_22"):
        sazs.load_initial(model, "drn_d_22", tmp_path / "other.pth")


def test_vit_start_is_read_from_a_classifier_of_another_resolution(tmp_path):
    import timm
    from safetensors.torch import save_file

    donor = timm.create_model("vit_tiny_patch16_224")
    save_file(donor.state_dict(), tmp_path / "vit.safetensors")
    model = sazs.build("vitti16_384").eval()
    sazs.load_initial(model, "vitti16_384", tmp_path / "vit.safetensors")
    backbone = model.pretrained.model
    assert torch.equal(backbone.blocks[5].mlp.fc2.weight, donor.blocks[5].mlp.fc2.weight)
    assert backbone.pos_embed.shape == (1, 577, 192)


def test_trunk_agrees_with_timm(tmp_path):
    import timm

    donor = timm.create_model("vit_tiny_patch16_384").eval()
    model = sazs.build("vitti16_384").eval()
    model.load_backbone(donor.state_dict())
    images = torch.rand(1, 3, 384, 384)
    with torch.no_grad():
        ours, grid = model.pretrained.model.tokens(images)
        theirs = donor.forward_intermediates(
            images, indices=[5], norm=False, intermediates_only=True, output_fmt="NLC",
            return_prefix_tokens=True,
        )[0]  # fmt: skip
    assert grid == (24, 24)
    torch.testing.assert_close(ours[:, 1:], theirs[0], atol=2e-5, rtol=0)


def test_class_scores_take_one_list_of_texts_or_one_per_image():
    features, texts = torch.rand(2, 512, 3, 4), torch.rand(5, 512)
    shared = sazs.class_scores(features, texts)
    assert shared.shape == (2, 5, 3, 4)
    torch.testing.assert_close(shared, sazs.class_scores(features, texts.expand(2, 5, 512)))
    torch.testing.assert_close(
        shared[1, 3, 2, 0], features[1, :, 2, 0] @ texts[3], rtol=1e-4, atol=0
    )


def test_lowlevel_trunk_is_the_extractor_of_the_photo_itself():
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    model = sazs.build("drn_lowlevel8", drop_rate=0.0).eval()
    images = sazs.normalised(torch.from_numpy(image)[None])
    features = model.base[0](images)
    expected = extractor("lowlevel8")([image])[0]
    assert features.shape == (1, 384, 6, 8)
    assert np.array_equal(features[0].flatten(1).T.numpy(), expected)
    edge, out = model(images)
    assert (edge.shape, out.shape) == ((1, 1, 6, 8), (1, 512, 6, 8))


def test_lowlevel_head_learns_a_colour():
    """Red against the rest of the picture, in a few steps."""
    torch.manual_seed(0)
    pixels = torch.full((2, 64, 64, 3), 90, dtype=torch.uint8)
    pixels[0, 16:48, 8:40] = torch.tensor([200, 20, 20], dtype=torch.uint8)
    pixels[1, 8:40, 24:56] = torch.tensor([200, 20, 20], dtype=torch.uint8)
    target = (pixels[:, 4::8, 4::8, 0] == 200).long()
    model = sazs.build("drn_lowlevel8", drop_rate=0.0).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    texts = torch.zeros(2, 512)
    texts[1, 0] = 1.0
    for _ in range(20):
        log_prob = sazs.log_probabilities(model(sazs.normalised(pixels))[1], texts)
        loss = torch.nn.functional.nll_loss(log_prob, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (log_prob.argmax(1) == target).float().mean() > 0.97
