"""The report in a browser: filter, order, paging, links, and that it fits a narrow screen."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from eval import report

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

pytestmark = [
    pytest.mark.web,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH"),
]

# The page runs in a frame; a script beside it leaves the answer in the text of its own page.
FRAME = """<!doctype html><iframe id="page" style="width:{width}px;height:900px"></iframe>
<pre id="answer"></pre><script>
page.onload = async () => {{
  const doc = page.contentDocument;
  const all = (selector) => [...doc.querySelectorAll(selector)];
  const ids = (view) => all(`[data-view="${{view}}"] [data-list] > *`).map(
    (node) => node.querySelector("h4, th").textContent);
  const set = (id, value) => {{
    doc.getElementById(`report-${{id}}`).value = value;
    doc.getElementById(`report-${{id}}`).dispatchEvent(new Event("input", {{ bubbles: true }}));
  }};
  let value;
  try {{ value = await (async () => {{ {script} }})(); }} catch (error) {{ value = String(error); }}
  answer.textContent = JSON.stringify(value);
}};
page.src = "{source}";
</script>"""


@pytest.fixture(scope="module")
def ask(tmp_path_factory):
    """Function that runs a script against the page of 60 photos and returns what it returns."""
    folder = tmp_path_factory.mktemp("report")
    rows = [
        report.PhotoRow(
            f"p {i:02d}" if i < 3 else f"p{i:02d}",
            (300, 400 + i),
            (3, 4),
            (0.0, 0.01 * i),
            (0.0, 1e-9 * ((i * 7) % 60 + 1) if i != 5 else float("nan")),
            "dense" if i % 10 == 0 else "lanczos",
            None if i == 7 else float(i),
        )
        for i in range(60)
    ]
    uri = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="
    strips = [
        report.Strip(row.id, uri, uri, (uri,) * 2, (uri,) * 2, (0.5, 0.5)) for row in rows[::2]
    ]
    wide = np.zeros((200, 300, 3), np.uint8)
    sections = [
        report.summary(
            photos=62, done=60, quarantined=2, facts={"weights": "0123456789abcdef" * 4}
        ),
        report.table("Scores", [f"a long column title {i}" for i in range(9)], [["x"] * 9]),
        report.pictures("Examples", ["a", "b", "c"], [report.PictureRow("q" * 90, [wide] * 3)]),
        report.quarantine([("bad_1", "decode", "0 bytes"), ("bad_2" * 30, "solve", "p40 failed")]),
        report.photos(rows, strips),
        report.configuration({"k": 5, "path": "/a" * 200}),
    ]
    report.write(folder / "report.html", sections, title="A report of " + "many" * 30)

    def run(script, *, fragment="", width=1200):
        frame = folder / "frame.html"
        frame.write_text(FRAME.format(script=script, source=f"report.html{fragment}", width=width))
        command = [
            *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *("--allow-file-access-from-files", f"--user-data-dir={folder / 'profile'}"),
            *("--virtual-time-budget=10000", "--dump-dom", frame.as_uri()),
        ]
        dump = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return json.loads(html.unescape(re.search(r'id="answer">(.*?)</pre>', dump.stdout)[1]))

    return run


def test_lists_open_on_their_first_page(ask):
    photos, strips, bad, status = ask(
        """return [ids("photos"), ids("strips"), ids("quarantine"),
                   doc.getElementById("report-status").textContent];"""
    )
    assert photos == [f"p {i:02d}" for i in range(3)] + [f"p{i:02d}" for i in range(3, 25)]
    assert len(strips) == 20 and strips[:3] == ["p 00", "p 02", "p04"]
    assert bad == ["bad_1", "bad_2" * 30]
    assert status == "2 of 2 quarantined · 30 of 30 strips · 60 of 60 images"


def test_table_shows_each_number_under_its_heading(ask):
    heads, cells = ask(
        """return ["thead th", "tbody tr:nth-child(12) > *"].map((selector) =>
          all(`[data-view="photos"] ${selector}`).map((node) => node.textContent));"""
    )
    assert dict(zip(heads, cells, strict=True)) == {
        "id": "p11",
        "largest residual": "1.8e-8",
        "solver": "lanczos",
        "time": "11.0 s",
        "size": "300 × 411",  # noqa: RUF001
        "grid": "3 × 4",  # noqa: RUF001
        "eigenvalues": "0  0.11",
    }


def test_every_record_is_reached_by_turning_pages(ask):
    seen = ask(
        """const seen = ids("photos");
        const next = all('[data-view="photos"] [data-step="1"]')[0];
        for (let turns = 0; !next.disabled && turns < 9; turns++) {
          next.click();
          seen.push(...ids("photos"));
        }
        return seen;"""
    )
    assert len(seen) == len(set(seen)) == 60


# What is left of the lists: quarantine, strips, photos.
FILTERED = {
    "": (2, 30, 60),
    "p3": (0, 5, 10),
    "P3": (0, 5, 10),
    "p40": (1, 1, 1),
    "id:p40": (0, 1, 1),
    "solver:dense": (0, 6, 6),
    "dense p4": (0, 1, 1),
    "residual>5.85e-8": (0, 1, 3),
    "residual<1.5e-9 solver:dense": (0, 1, 1),
    "seconds>57": (0, 1, 2),
    "width>458": (0, 0, 1),
    '"p 0"': (0, 2, 3),
    "stage:decode": (1, 0, 0),
    'reason:"40 fail"': (1, 0, 0),
    "<b>": (0, 0, 0),
}


def test_filter(ask):
    found = ask(
        f"""return {json.dumps(list(FILTERED))}.map((query) => {{
          set("filter", query);
          return doc.getElementById("report-status").textContent;
        }});"""
    )
    counts = [tuple(int(n) for n in re.findall(r"(\d+) of", status)) for status in found]
    assert dict(zip(FILTERED, counts, strict=True)) == FILTERED


def test_order_by_residual_puts_what_is_not_finite_first(ask):
    photos, strips = ask('set("order", "residual"); return [ids("photos"), ids("strips")];')
    expected = sorted((i for i in range(60) if i != 5), key=lambda i: -((i * 7) % 60))
    assert [int(name[1:]) for name in photos] == [5, *expected[:24]]
    assert [int(name[1:]) for name in strips] == [i for i in expected if i % 2 == 0][:20]


def test_order_by_seconds_puts_unknown_last(ask):
    last = ask(
        """set("order", "seconds"); set("filter", "p0");
        return ids("photos");"""
    )
    assert last == ["p09", "p08", "p06", "p05", "p04", "p03", "p07"]


def test_address_keeps_filter_and_order(ask):
    value = ask(
        'return [doc.getElementById("report-filter").value, ids("photos")];',
        fragment="#q=id%3Ap5&order=seconds",
    )
    assert value == ["id:p5", [f"p{i}" for i in range(59, 49, -1)]]
    fragment = ask('set("filter", "é <b>"); return page.contentWindow.location.hash;')
    assert fragment == "#q=%C3%A9+%3Cb%3E"


def test_table_row_leads_to_its_strip_on_another_page_of_strips(ask):
    shown, focus = ask(
        """const next = all('[data-view="photos"] [data-step="1"]')[0];
        next.click(); next.click();
        all("button.to-strip").find((node) => node.textContent === "p58").click();
        return [ids("strips"), doc.activeElement.getAttribute("aria-label")];"""
    )
    assert "p58" in shown and len(shown) == 10
    assert focus == "thumbnails of p58"


def test_page_without_matches_says_so(ask):
    said = ask(
        'set("filter", "nowhere"); return all("[data-status]").map((node) => node.textContent);'
    )
    assert said == ["Nothing matches the filter."] * 3


def test_slash_goes_to_the_filter(ask):
    assert (
        ask(
            """doc.body.dispatchEvent(new KeyboardEvent("keydown", { key: "/", bubbles: true }));
        return doc.activeElement.id;"""
        )
        == "report-filter"
    )


@pytest.mark.parametrize("width", [320, 400, 1400])
def test_page_never_scrolls_sideways(ask, width):
    page_width, inner = ask(
        """for (const node of all("details")) node.open = true;
        const root = doc.documentElement;
        return [root.scrollWidth, root.clientWidth];""",
        width=width,
    )
    assert page_width <= inner <= width
