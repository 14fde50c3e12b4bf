"""The page as a file: what sections hold, that nothing is fetched, that text stays text."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from data.errors import SettingError
from eval import report
from eval.report.templates import UNKNOWN, source

NASTY = "a <b>\"é' & </script><script>alert(1)</script> 猫"


class Page(HTMLParser):
    """Tags, text and attributes of a page; refuses tags that do not nest."""

    VOID = frozenset({"meta", "img", "input", "br", "rect", "line"})

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.scripts, self.text = [], [], [], ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif "style" not in self.open:
            self.text += data

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def row(photo_id="a", solver="lanczos", residual=1e-9, **more):
    return report.PhotoRow(photo_id, (30, 40), (3, 4), (0.0, 0.25), (0.0, residual), solver, **more)


def strip(photo_id="a", k=2):
    uri = "data:image/webp;base64,AAAA"
    return report.Strip(photo_id, uri, uri, (uri,) * k, (uri,) * k, (0.5,) * k)


def page(*sections):
    return Page(report.render(sections, title=NASTY))


def full_page(name="plain"):
    image = np.zeros((5, 7, 3), np.uint8)
    return [
        report.summary(photos=3, done=1, quarantined=1, seconds=9.0, facts={name: name}),
        report.table("Scores", [name, "mIoU"], [[name, 0.5]], caption=name),
        report.pictures(
            "Examples", [name], [report.PictureRow(name, [image], name)], legend={name: (1, 2, 3)}
        ),
        report.solvers([row(name, solver=name)]),
        report.quarantine([(name, name, name)]),
        report.photos([row(name, solver=name)], [strip(name)], note=name),
        report.configuration({name: {"k": name}}),
    ]


def test_page_with_every_section_is_well_formed():
    made = page(*full_page())
    titles = ["Summary", "Scores", "Examples", "Solvers", "Quarantine", "Images", "Configuration"]
    links = [attrs["href"] for attrs in made.all("a")]
    assert links == [f"#{title.lower()}" for title in titles]
    assert [attrs["id"] for attrs in made.all("section")] == [link[1:] for link in links]
    assert all(attrs.get("alt") for attrs in made.all("img"))


def test_page_asks_for_nothing_from_outside():
    html = report.render(full_page(), title="t")
    html = re.sub(r"'sha256-[^']*'", "", html)  # base64 may hold "//"
    assert re.findall(r"(?:https?:)?//[\w.]", html) == []
    for tag, attrs in Page(html).tags:
        assert tag not in ("link", "iframe", "object", "base")
        for name in ("src", "href", "srcset", "poster", "action"):
            assert attrs.get(name, "#").startswith(("#", "data:image/"))
    assert "url(" not in html and "@import" not in html
    policy = next(a for a in Page(html).all("meta") if "http-equiv" in a)["content"]
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_names_and_reasons_from_outside_stay_text():
    plain, nasty = page(*full_page()), page(*full_page(NASTY))
    assert [tag for tag, _ in nasty.tags] == [tag for tag, _ in plain.tags]
    assert all(not name.startswith("on") for _, attrs in nasty.tags for name in attrs)
    assert nasty.text.count(NASTY) >= 15
    assert any(attrs.get("alt") == f"image {NASTY}" for attrs in nasty.all("img"))
    assert json.loads(nasty.scripts[0])["rows"][0][0] == NASTY


def test_written_file_is_what_was_rendered(tmp_path):
    target = tmp_path / "new" / "report.html"
    report.write(target, full_page(), title="t")
    assert target.read_text(encoding="utf-8") == report.render(full_page(), title="t")
    assert list(target.parent.iterdir()) == [target]


def test_file_name_that_is_not_utf8_is_written_legibly(tmp_path):
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    report.write(tmp_path / "r.html", [report.photos([row(name)], [strip(name)])], title="t")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<h4>caf\\udce9</h4>" in text
    assert json.loads(Page(text).scripts[0])["rows"][0][0] == name


def test_two_sections_of_one_title_are_refused():
    with pytest.raises(SettingError, match="titled 'Images'"):
        report.render([report.photos([], []), report.photos([], [])], title="t")


@pytest.mark.parametrize(
    ("counts", "said"),
    [((10, 7, 3), None), ((10, 6, 3), "1 of 10 images are neither"), ((10, 9, 3), "2 more images")],
)
def test_summary_says_when_photos_are_unaccounted_for(counts, said):
    photos, done, quarantined = counts
    text = page(report.summary(photos=photos, done=done, quarantined=quarantined)).text
    assert ("neither" in text or "more images" in text) is (said is not None)
    assert said is None or said in text


def test_summary_divides_done_by_seconds():
    text = page(report.summary(photos=40, done=30, quarantined=10, seconds=60.0)).text
    assert re.search(r"images / s\s*0\.5\b", text)


def test_photos_carry_every_row_in_order_of_id():
    rows = [row(f"{i:05d}", solver=f"s{i % 2}", seconds=i / 7) for i in reversed(range(1000))]
    made = page(report.photos(rows, [strip("00007")], note="ONE OF MANY"))
    data = json.loads(made.scripts[0])
    assert [line[0] for line in data["rows"]] == [f"{i:05d}" for i in range(1000)]
    assert data["rows"][7] == ["00007", 30, 40, 3, 4, [0.0, 0.25], 1e-9, 1, 1.0]
    assert data["solvers"] == ["s0", "s1"]
    assert "ONE OF MANY" in made.text
    assert [attrs["data-row"] for attrs in made.all("article")] == ["7"]


def test_not_finite_numbers_are_said_to_be_none():
    made = page(report.photos([row(residual=float("nan"))], [strip()]))
    assert json.loads(made.scripts[0])["rows"][0][6] is None
    assert made.text.count("not finite") == 2


def test_photos_with_differing_numbers_of_pairs():
    short = report.PhotoRow("b", (1, 1), (1, 1), (0.0,), (0.0,), "dense")
    made = page(report.photos([row("a"), short], [strip("b", k=1)]))
    assert made.text.count("mask k") == 1


@pytest.mark.parametrize(
    ("rows", "strips"),
    [([row("a"), row("a")], []), ([row("a")], [strip("b")]), ([row("a")], [strip("a", k=3)])],
)
def test_photos_refuse_rows_and_strips_that_do_not_match(rows, strips):
    with pytest.raises(SettingError, match="row"):
        report.photos(rows, strips)


def test_solvers_are_counted_with_their_residuals_and_time():
    rows = [row(str(i), residual=r, seconds=2.0) for i, r in enumerate([1e-9, 3e-9, 8e-9])]
    html = report.solvers([*rows, row("x", solver="dense", residual=2e-7)]).body
    cells = re.findall(r"<t[hd](?: [^>]*)?>([^<]*)", html)[6:]
    assert cells[:6] == ["lanczos", "3", "8.0e-9", "3.0e-9", "6.0 s", "2.0 s"]
    assert cells[6:] == ["dense", "1", "2.0e-7", "2.0e-7", UNKNOWN, UNKNOWN]


def test_quarantine_lists_every_row():
    rows = [(f"id{i}", f"stage{i % 3}", f"reason <{i}>") for i in range(500)]
    made = page(report.quarantine(rows))
    for cells in rows:
        assert re.search(r"\s*".join(map(re.escape, cells)), made.text)


def test_configuration_is_flattened_and_folded():
    settings = {"graph": {"colour": {"weight": 0.5}}, "k": 5, "empty": {}, "names": ["a", None]}
    made = page(report.configuration(settings))
    assert made.all("details") == [{}]
    cells = re.findall(r"\S.*", made.text.split("as resolved")[1])
    assert " ".join(cells) == 'graph.colour.weight0.5 k5 empty{} names["a", null]'


def test_table_formats_numbers_and_refuses_ragged_rows():
    made = page(
        report.table("Scores", ["m", "x", "n", "y"], [["net", 1.25, 12000, None]], digits=1)
    )
    assert re.search(r"net\s*1\.2\s*12,000\s*" + UNKNOWN, made.text)
    with pytest.raises(SettingError, match="row 'net' has 2 cells"):
        report.table("Scores", ["m", "x", "y"], [["net", 1.0]])


def test_pictures_refuse_a_row_that_lacks_one():
    image = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(SettingError, match="cat has 1 images"):
        report.pictures("Examples", ["photo", "truth"], [report.PictureRow("cat", [image])])


def test_twelve_thousand_photos_stay_below_a_megabyte_and_a_half_of_numbers():
    rng = np.random.default_rng(0)
    rows = [
        report.PhotoRow(
            f"2007_{i:06d}",
            (375, 500),
            (23, 31),
            tuple(rng.random(5).tolist()),
            tuple(rng.random(5).tolist()),
            "lanczos",
            float(rng.random()),
        )
        for i in range(12_000)
    ]
    assert len(report.render([report.photos(rows, [])], title="t")) < 1.5e6


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_that_wcag_asks_for(scheme):
    blocks = re.findall(r":root \{(.*?)\}", source("style.css"), re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#\w{6})", blocks[scheme == "dark"]))
    for ink in ("ink", "quiet", "accent", "warn", "low", "high"):
        for ground in ("ground", "surface", *(["warn-ground"] if ink == "warn" else [])):
            bright, dim = sorted((luminance(colours[ink]), luminance(colours[ground])))[::-1]
            assert (bright + 0.05) / (dim + 0.05) >= 4.5, f"{ink} on {ground}"
