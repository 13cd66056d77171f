"""The page in a real Chromium, from a real server with a tiny model: what is asked and shown."""

from __future__ import annotations

import functools
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Visit, Visitor
from conftest import QUESTIONS, make_wrapper
from page_visitor import SIGNS, PageVisitor
from playwright.sync_api import Browser, expect
from running import bash
from served import H, Served, served, user, wait_until

QUESTION = QUESTIONS[0]
STRENGTH = 0.55
LINK = {"behavior": "calm", "layer": 2, "dose": STRENGTH, "temperature": 0, "max_tokens": 12}


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served(make_wrapper("llama")) as found:
        yield found


@pytest.fixture
def desk(visit: Visitor, server: Served) -> Iterator[PageVisitor]:
    """The page with settings that give short answers; nothing may go wrong on it."""
    found = PageVisitor(visit, server.url, LINK).ready()
    yield found
    assert found.visit.faults == []
    assert all(url.startswith(server.url) for url in found.visit.requests), "it asked elsewhere"


@pytest.fixture(scope="module")
def plain_page(chromium: Browser, server: Served) -> Iterator[PageVisitor]:
    """One page for tests that leave it as it is."""
    found = PageVisitor(functools.partial(Visit, chromium), server.url)
    yield found
    found.visit.context.close()


def by_client(server: Served, messages: Any, dose: float, **more: Any) -> str:
    steering = {"behavior": "calm", "layer": 2, "dose": dose} | more if dose else None
    reply = server.client.chat.completions.create(
        model="tiny",
        messages=messages,
        temperature=0,
        max_tokens=12,
        extra_body={"steering": steering},
    )
    return str(reply.choices[0].message.content)


def test_the_three_panes_are_the_answers_with_minus_without_and_plus(
    desk: PageVisitor, server: Served
) -> None:
    answers = desk.ask(QUESTION)
    assert answers == [by_client(server, user(QUESTION), STRENGTH * sign) for sign in SIGNS]
    assert len(set(answers)) == 3
    headings = desk.find(".pane h3").all_text_contents()
    assert headings == ["Calm −0.55 · layer 2", "Unsteered", "Calm +0.55 · layer 2"]
    norm = float(server.catalogue.behaviors["calm"][2].vector.norm())
    times = f"{STRENGTH * H / norm:.1f}"
    prompt = len(server.wrapper.prompt_format().open_prompt(QUESTION).ids)
    assert desk.feet() == [
        f"longest answer reached · 12 tokens · ×−{times} from token {prompt - 1}",
        "longest answer reached · 12 tokens",
        f"longest answer reached · 12 tokens · ×{times} from token {prompt - 1}",
    ]
    assert desk.find("h1").text_content() == (
        "tiny ± 0.55 Calm after block 2, from the end of the latest message on"
    )


def test_the_panes_grow_together_before_their_end(desk: PageVisitor) -> None:
    desk.page.fill("#message", QUESTION)
    desk.page.evaluate(
        """() => { window.seen = []; new MutationObserver(() => window.seen.push(
             [...document.querySelectorAll('.text')].map((each) => each.textContent.length)
           )).observe(document.getElementById('turns'), {childList: true, subtree: true}); }"""
    )
    desk.page.press("#message", "Enter")
    desk.finished()
    seen = [each for each in desk.page.evaluate("window.seen") if len(each) == 3]
    final = seen[-1]
    for pane in range(3):
        assert len({each[pane] for each in seen}) > 4, "it came in one piece"
    assert any(all(0 < n < end for n, end in zip(each, final, strict=True)) for each in seen)


def test_all_settings_reach_the_server(desk: PageVisitor) -> None:
    desk.page.select_option("#target", label="bold")
    desk.page.click("#more_shown")
    desk.page.fill("#layer", "0")
    desk.page.fill("#strength", "0.4")
    for name, value in {
        "temperature": 0.7,
        "max_tokens": 5,
        "seed": 3,
        "system": "Be short.",
    }.items():
        desk.page.fill(f"#{name}", str(value))
    desk.page.select_option("#scope", "all")
    heard = desk.overheard()
    desk.ask(QUESTION)
    first = json.loads(heard[0][1].split("\n\n")[0].removeprefix("data: "))
    shared = {
        "model": "tiny",
        "messages": [{"role": "system", "content": "Be short."}, *user(QUESTION)],
        "temperature": 0.7,
        "max_tokens": 5,
        "seed": 3,
        "stream": True,
        "stream_options": {"include_usage": True},
        "token_scores": {"behavior": "bold", "layer": 1},
    }
    where = {"behavior": "bold", "layer": 1, "scope": "all"}
    assert desk.asked == [
        shared | ({"steering": where | {"dose": sign * 0.4}} if sign else {}) for sign in SIGNS
    ]
    for steering in first["steering"] or []:
        assert (steering["scope"], steering["first_steered_token"]["index"]) == ("all", 0)
    assert "at all tokens" in str(desk.find("h1").text_content())


def test_each_pane_goes_on_from_its_own_answers_and_a_dose_of_0_is_unsteered(
    desk: PageVisitor, server: Served
) -> None:
    first = desk.ask(QUESTION)
    desk.page.fill("#strength", "0")
    second = desk.ask(QUESTIONS[4])
    for pane in range(3):
        history = [
            *user(QUESTION),
            {"role": "assistant", "content": first[pane]},
            *user(QUESTIONS[4]),
        ]
        assert second[pane] == by_client(server, history, 0)
    # and what the earlier turn was made with still stands over it
    assert desk.find(".pane h3").first.text_content() == "Calm −0.55 · layer 2"


def test_a_slider_that_moves_during_an_answer_acts_on_the_next(desk: PageVisitor) -> None:
    desk.page.click("#more_shown")
    desk.page.fill("#max_tokens", "1500")
    desk.send(QUESTION)
    expect(desk.find(".pane").nth(2).locator(".tok").nth(3)).to_be_visible()
    desk.page.fill("#strength", "0.1")
    desk.page.keyboard.press("Escape")
    desk.finished()
    desk.page.fill("#max_tokens", "4")
    desk.ask(QUESTION)
    assert [body["steering"]["dose"] for body in desk.asked if "steering" in body] == [
        -STRENGTH, STRENGTH, -0.1, 0.1,
    ]  # fmt: skip


def test_stop_frees_the_rows_and_keeps_what_came(desk: PageVisitor, server: Served) -> None:
    desk.page.click("#more_shown")
    desk.page.fill("#max_tokens", "1800")
    desk.send(QUESTION)
    for pane in range(3):
        expect(desk.find(".pane").nth(pane).locator(".tok").nth(3)).to_be_visible()
    assert server.send("/health", method="GET")[1]["running"] == 3
    desk.page.click("#stop")
    wait_until(lambda: server.send("/health", method="GET")[1]["running"] == 0, 2)
    desk.finished()
    assert all(foot.startswith("stopped") for foot in desk.feet())
    before = desk.answers()
    assert all(before)
    desk.page.fill("#max_tokens", "4")
    desk.ask(QUESTIONS[4])
    assert [body["messages"][1]["content"] for body in desk.asked[3:]] == before


def test_regenerate_and_edit_replace_the_last_turn(desk: PageVisitor) -> None:
    desk.ask(QUESTION)
    second = desk.ask(QUESTIONS[2])
    desk.page.click(".last .again")
    desk.finished()
    assert desk.answers() == second
    assert desk.find(".turn h2").all_text_contents() == [QUESTION, QUESTIONS[2]]
    desk.page.fill("#message", "a draft")
    desk.page.click(".last .edit")
    expect(desk.find("#message")).to_have_value(QUESTIONS[2])
    desk.page.keyboard.press("Escape")
    expect(desk.find("#message")).to_have_value("a draft")
    desk.page.click(".last .edit")
    desk.send(QUESTIONS[4])
    expect(desk.find(".turn h2").last).to_have_text(QUESTIONS[4])
    desk.finished()
    assert desk.find(".turn h2").all_text_contents() == [QUESTION, QUESTIONS[4]]
    expect(desk.find("#message")).to_have_value("a draft")
    assert [m["content"] for m in desk.asked[-1]["messages"]][::2] == [QUESTION, QUESTIONS[4]]


def test_clear_begins_anew_and_can_be_undone(desk: PageVisitor) -> None:
    desk.ask(QUESTION)
    desk.page.click("#clear")
    expect(desk.find(".turn")).to_have_count(0)
    desk.page.click("#undo")
    expect(desk.find(".turn h2")).to_have_text([QUESTION])
    desk.page.click("#clear")
    desk.ask(QUESTIONS[4])
    assert desk.asked[-1]["messages"] == user(QUESTIONS[4])


def test_a_link_restores_all_settings_and_sends_nothing(
    desk: PageVisitor, visit: Visitor, server: Served
) -> None:
    text = "An aunt & a #ship?\n100 % \"sure\" 'yes'"
    desk.page.select_option("#target", label="bold")
    desk.page.click("#more_shown")
    values = {"strength": "0.33", "temperature": "0.5", "max_tokens": "7", "seed": "9",
              "system": "Be\nshort & #1."}  # fmt: skip
    for name, value in values.items():
        desk.page.fill(f"#{name}", value)
    desk.page.fill("#layer", "0")
    desk.page.select_option("#scope", "all")
    desk.page.check("#colours")
    desk.ask(text)
    link = desk.copied("#link")
    other = PageVisitor(visit, link).ready()
    for name, value in (values | {"layer": "0", "scope": "all", "message": text}).items():
        assert other.find(f"#{name}").input_value() == value
    assert other.find("#layer_shown").text_content() == "1"
    assert other.find("#target option:checked").text_content() == "bold"
    assert other.find("#colours").is_checked()
    other.page.wait_for_timeout(100)
    assert other.asked == []
    other.page.press("#message", "Enter")
    other.finished()
    assert other.asked == desk.asked
    assert other.answers() == desk.answers()


def test_a_link_to_what_there_is_not_says_so(visit: Visitor, server: Served) -> None:
    there = PageVisitor(visit, server.url, {"behavior": "gone", "message": "Hello"}).ready()
    expect(there.find("#notice")).to_contain_text("the behaviour gone")
    expect(there.find("#message")).to_have_value("Hello")
    faulty = {"behavior": "bold", "layer": 3, "temperature": "hot", "max_tokens": -1}
    there = PageVisitor(visit, server.url, faulty).ready()
    for part in ("a vector at layer 3", "temperature hot", "max_tokens -1"):
        expect(there.find("#notice")).to_contain_text(part)
    assert there.find("#temperature").input_value() == "0"
    assert there.visit.faults == []


def test_copied_curl_and_python_run_and_give_the_same_answers(
    desk: PageVisitor, tmp_path: Path
) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl is installed")
    desk.ask('It\'s "odd":\n$HOME `id` \\ {x}?')
    answers = desk.ask(QUESTION)
    told = bash(desk.copied(".last .curl"), tmp_path)
    replies = [json.loads(line) for line in told.splitlines()]
    assert [reply["choices"][0]["message"]["content"] for reply in replies] == answers
    signs = [r["steering"] and r["steering"][0]["multiplier"] > 0 for r in replies]
    assert signs == [False, None, True]
    script = tmp_path / "asked.py"
    script.write_text(desk.copied(".last .python"))
    told = bash(f"{sys.executable} {script}", tmp_path, dict(os.environ))
    headings = desk.find(".last h3").all_text_contents()
    assert told == "".join(f"{h}\n{a}\n\n" for h, a in zip(headings, answers, strict=True))


def test_colours_show_the_scores_of_the_reply(desk: PageVisitor) -> None:
    desk.page.check("#colours")
    heard = desk.overheard()
    desk.ask(QUESTION)
    sent, reply = heard[0]
    pane = desk.asked.index(sent)
    told = [
        choice["token_scores"][0]["score"]
        for line in reply.split("\n\n")
        if line.startswith("data: {")
        for choice in json.loads(line.removeprefix("data: "))["choices"]
        if choice.get("token_scores")
    ]
    tokens = desk.find(".pane").nth(pane).locator(".tok")
    texts = (
        desk.find(".pane")
        .nth(pane)
        .locator(".tok")
        .evaluate_all("all => all.map((each) => [each.dataset.number, each.className])")
    )
    numbers = [n for number, _ in texts for n in number.replace("−", "-").split(", ")]
    known = [score for score in told if score is not None]
    assert [float(n) for n in numbers] == [pytest.approx(s, abs=6e-4) for s in known]
    for number, name in texts:
        assert "," in number or ("neg" in name) == number.startswith("−")
    tokens.nth(1).hover()
    expect(desk.find("#number")).to_have_text(texts[1][0])
    desk.find(".text").nth(pane).focus()
    desk.page.keyboard.press("ArrowRight")
    desk.page.keyboard.press("ArrowRight")
    expect(desk.find("#number")).to_have_text(texts[2][0])
    expect(desk.find("#spoken")).to_contain_text(texts[2][0])
    scale = float(str(desk.find(".high").text_content()))
    most = max(float(n.replace("−", "-")) for n in desk.find(".tok").evaluate_all(
        "all => all.flatMap((each) => each.dataset.number.split(', '))"))  # fmt: skip
    assert most <= scale


@pytest.mark.parametrize(
    ("content", "tokens", "parts"),
    [
        ("Hello", [" Hello"], ["Hello"]),
        (" there", [" there"], [" there"]),
        ("\n\nOne", ["\n\n", "One"], ["\n\n", "One"]),
        ("steps:", [" steps:\n\n"], ["steps:"]),
        ("\n\n1", ["1"], ["\n\n*", "1"]),
        ("é", ["\ufffd", "\ufffd"], ["é"]),
        ("ab", ["a", "x"], ["ab"]),
        ("left", [], ["left*"]),
    ],
)
def test_every_number_stands_at_its_token(
    plain_page: PageVisitor, content: str, tokens: list[str], parts: list[str]
) -> None:
    """A star: text without a number."""
    given = [{"token": token, "score": 0.5} for token in tokens]
    script = """async ([content, given]) => (await import('/page/answers.js')).split(content, given)
        .map((each) => each.text + (each.scores.length ? '' : '*'))"""
    assert plain_page.page.evaluate(script, [content, given]) == parts


def test_what_tune_has_chosen_is_the_default_and_above_it_is_a_warning(
    visit: Visitor, server: Served
) -> None:
    desk = PageVisitor(visit, server.url).ready()
    assert desk.find("#layer_shown").text_content() == "2"
    assert desk.find("#strength").input_value() == "0.25"
    expect(desk.find("#safe")).to_be_visible()
    expect(desk.find("#advice")).not_to_have_class("warns")
    desk.page.fill("#strength", "0.3")
    expect(desk.find("#advice")).to_contain_text("Above 0.25")
    desk.page.fill("#layer", "1")
    expect(desk.find("#safe")).to_be_hidden()
    expect(desk.find("#advice")).to_have_text("tune.py chose layer 2.")
    desk.page.select_option("#target", label="bold")
    expect(desk.find("#advice")).to_contain_text("no layer and strength that moves bold")
    # nobody has measured the residual stream for a vector from a file
    desk.page.select_option("#target", label="mine")
    expect(desk.find("#unit")).to_have_text("Multiplier")
    desk.page.fill("#strength", "1.5")
    desk.page.click("#more_shown")
    desk.page.fill("#max_tokens", "4")
    desk.ask(QUESTION)
    where = {"vector": "mine", "layer": 2}
    assert desk.asked[2]["token_scores"] == where
    assert desk.asked[2]["steering"] == where | {"multiplier": 1.5, "scope": "after_instruction"}
    assert desk.visit.faults == []
